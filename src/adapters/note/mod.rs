//! The note of the records in hand, as a file mapped into memory: its content outlives a killed process, and costs a few
//! stores a record. Each process has a file of its own, and holds a lock on it as long as it lives. A process that starts in
//! the same folder reads the files without a holder, and deletes them once it has their suspects.
//!
//! A machine that dies may leave an old page behind, or none: at worst an innocent record is counted once, or a death is
//! not counted.

mod format;
mod words;

use crate::flow::record::TopicName;
use crate::ports::Fault;
use crate::ports::note::{InHand, Mark, Note, Suspect, blame};
use format::{WORKERS, suspect_at, word_of, worker_at};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use words::Words;

/// The extension of the files' names.
const ENDING: &str = "note";

/// The note of this process.
pub struct FileNote {
    words: Arc<Words>,
    /// The suspects of the file, in the order of their places.
    suspects: Vec<Suspect>,
    _file: File, // holds the lock
}

/// The file of a process that is dead.
struct LeftBehind {
    path: PathBuf,
    suspects: Vec<Suspect>,
    written: SystemTime,
    _file: File, // nobody else takes it over meanwhile
}

impl FileNote {
    /// Takes over the notes that dead processes left in the folder, and begins a note of this process. The folder is made
    /// where it is missing. `sources` are all sources of the pipeline, by their numbers. Files that are no notes are logged
    /// and left alone.
    ///
    /// # Errors
    /// `Fatal` where the folder cannot be used; the service goes on without a note.
    pub fn open(folder: &Path, sources: &[TopicName]) -> Result<Self, Fault> {
        let failed = |error| Fault::fatal(format!("the folder {} cannot be used", folder.display())).because(error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let left = all_left_behind(folder, sources).map_err(failed)?;
        let mut suspects = Vec::new();
        for Suspect { at, deaths } in left.iter().flat_map(|left| &left.suspects) {
            blame(&mut suspects, *at, *deaths);
        }
        let (file, words) = begin(folder, &format::blank(sources, &suspects)).map_err(failed)?;
        for left in &left {
            if let Err(error) = fs::remove_file(&left.path) {
                tracing::warn!(file = %left.path.display(), %error, "a dead process's note cannot be deleted: its deaths are counted again at the next start; delete the file");
            }
        }
        Ok(Self { words: Arc::new(words), suspects, _file: file })
    }

    fn store(&self, number: usize, word: u64) {
        if let Some(place) = self.words.word(number) {
            place.store(word, Ordering::Release);
        }
    }
}

impl Note for FileNote {
    fn suspects(&self) -> Vec<Suspect> {
        self.suspects.clone()
    }

    fn mark(&self, worker: usize) -> Box<dyn Mark> {
        Box::new(Slot { words: Arc::clone(&self.words), first: worker_at(worker.min(WORKERS - 1)) })
    }

    fn forget(&self, at: InHand) {
        if let Some(number) = self.suspects.iter().position(|suspect| suspect.at == at) {
            self.store(suspect_at(number), 0);
        }
    }

    fn end(&self) {
        (0..WORKERS).for_each(|number| self.store(worker_at(number), 0));
    }
}

/// The words of one worker.
struct Slot {
    words: Arc<Words>,
    first: usize,
}

impl Mark for Slot {
    fn take_up(&self, at: InHand) {
        let words = [0, 1, 2, 3].map(|number| self.words.word(self.first + number));
        if let [Some(source), Some(partition), Some(offset), Some(timer)] = words {
            partition.store(word_of(at.partition.0), Ordering::Relaxed);
            offset.store(word_of(at.offset.0), Ordering::Relaxed);
            timer.store(at.timer, Ordering::Relaxed);
            source.store(u64::from(at.source) + 1, Ordering::Release); // last: then the others are true
        }
    }

    fn put_down(&self) {
        if let Some(source) = self.words.word(self.first) {
            source.store(0, Ordering::Release);
        }
    }
}

/// Makes this process's file, with its blocks on the disk and its lock held.
fn begin(folder: &Path, blank: &[u8]) -> io::Result<(File, Words)> {
    let path = folder.join(format!("{}.{ENDING}", uuid::Uuid::new_v4().simple()));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.try_lock().map_err(io::Error::from).and_then(|()| file.write_all(blank));
    let mapped = written.and_then(|()| Words::map(&file));
    if mapped.is_err() {
        fs::remove_file(&path).ok();
    }
    mapped.map(|words| (file, words))
}

/// The notes that dead processes left, the oldest first.
fn all_left_behind(folder: &Path, sources: &[TopicName]) -> io::Result<Vec<LeftBehind>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        match left_behind(&path, sources) {
            Ok(left) => all.extend(left),
            Err(why) => {
                tracing::warn!(file = %path.display(), why, "a file among the notes of dead processes cannot be read, and is ignored; delete it");
            }
        }
    }
    all.sort_by_key(|left| left.written);
    Ok(all)
}

/// One file; `None` while its process lives, or where another one has just taken it over.
fn left_behind(path: &Path, sources: &[TopicName]) -> Result<Option<LeftBehind>, String> {
    let said = |error: io::Error| error.to_string();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(said)?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(said(error)),
    }
    let about = file.metadata().map_err(said)?;
    if about.nlink() == 0 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(said)?;
    let suspects = format::read(&bytes, sources)?;
    let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Some(LeftBehind { path: path.into(), suspects, written, _file: file }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Offset, Partition};

    struct Scene(PathBuf);

    impl Scene {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4().simple())))
        }

        fn open(&self) -> FileNote {
            FileNote::open(&self.0, &[TopicName::parse("readings").unwrap()]).unwrap()
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn at(offset: i64) -> InHand {
        InHand { source: 0, partition: Partition(2), offset: Offset(offset), timer: offset.cast_unsigned() }
    }

    #[test]
    fn what_a_dead_process_had_in_hand_is_counted_until_it_is_forgotten() {
        let scene = Scene::new();
        for deaths in 0..3 {
            let note = scene.open();
            let expected: Vec<Suspect> = (deaths > 0).then_some(Suspect { at: at(7), deaths }).into_iter().collect();
            assert_eq!((note.suspects(), scene.files()), (expected, 1));
            note.mark(1).take_up(at(6));
            note.mark(1).put_down();
            note.mark(1).take_up(at(7));
        }
        let note = scene.open();
        assert_eq!(note.suspects(), [Suspect { at: at(7), deaths: 3 }]);
        note.forget(at(7));
        drop(note);
        assert_eq!(scene.open().suspects(), []);
    }

    #[test]
    fn a_process_that_ends_of_its_own_accord_blames_nobody_and_one_that_lives_is_left_alone() {
        let scene = Scene::new();
        let (first, second) = (scene.open(), scene.open());
        first.mark(0).take_up(at(1));
        second.mark(0).take_up(at(2));
        first.end();
        drop(first);
        assert_eq!((scene.open().suspects(), scene.files()), (Vec::new(), 2));
        drop(second);
        assert_eq!(scene.open().suspects(), [Suspect { at: at(2), deaths: 1 }]);
    }

    #[test]
    fn torn_and_foreign_files_are_ignored_and_a_folder_that_is_none_is_told() {
        let scene = Scene::new();
        fs::create_dir_all(&scene.0).unwrap();
        for (name, bytes) in [("empty.note", ""), ("torn.note", "tideno02"), ("foreign.note", "hello"), ("other", "x")]
        {
            fs::write(scene.0.join(name), bytes).unwrap();
        }
        fs::create_dir(scene.0.join("folder.note")).unwrap();
        assert_eq!(scene.open().suspects(), []);
        assert_eq!(scene.files(), 6, "they lie where they lay");
        let no_folder = scene.0.join("other");
        let refused = FileNote::open(&no_folder, &[]).err().unwrap();
        assert!(refused.to_string().contains("cannot be used"), "{refused}");
    }
}
