//! The folder of the database: made, marked as damaged, moved aside.

use crate::ports::Fault;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The name of a file left in a folder whose damage was met while running; it holds the error.
const MARK: &str = "DAMAGED";
/// Names the file that names all others; RocksDB takes a folder without it for an empty one.
const CURRENT: &str = "CURRENT";
/// Most damaged folders beside the real one. 9: more than a week of one a day. Somebody has to look at the disk then.
const ASIDE_MAX: u32 = 9;

/// `<folder><suffix>`, beside the folder.
pub(super) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(folder);
    path.push(suffix);
    path.into()
}

/// Makes the folder, and lets nobody but the owner of the process in.
pub(super) fn create(folder: &Path) -> Result<(), Fault> {
    let failed = |error| Fault::fatal(format!("state: cannot use the folder {}", folder.display())).because(error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)
}

/// Makes the folder that the folder lies in.
pub(super) fn create_parent(folder: &Path) -> Result<(), Fault> {
    let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let failed = |error| Fault::fatal(format!("state: cannot make the folder {}", parent.display())).because(error);
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)
}

/// Why the folder must not be opened: it is marked, or it has data and nothing that names them.
pub(super) fn damage(folder: &Path) -> Result<Option<String>, Fault> {
    match fs::read_to_string(folder.join(MARK)) {
        Ok(met) => return Ok(Some(format!("damage was met before: {met}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Ok(Some(format!("the mark of damage cannot be read: {error}"))),
    }
    if folder.join(CURRENT).exists() {
        return Ok(None);
    }
    let failed = |error| Fault::fatal(format!("state: cannot read the folder {}", folder.display())).because(error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // The first start ends up here too when it is killed early, with empty files at most.
        let is_data = path.extension().is_some_and(|ending| ending == "sst" || ending == "log");
        if is_data && path.metadata().map_err(failed)?.len() > 0 {
            return Ok(Some(format!("the file {CURRENT} is missing")));
        }
    }
    Ok(None)
}

/// Marks the folder, so that the next start moves it aside. If that fails, the error is the instruction for a person.
pub(super) fn mark(folder: &Path, met: &str) -> Result<(), String> {
    fs::write(folder.join(MARK), met)
        .map_err(|error| format!("it could not be marked ({error}): move {} away by hand", folder.display()))
}

/// Moves the folder to the first free `<folder>.corrupt-<n>`, and says so.
pub(super) fn move_aside(folder: &Path, why: &str) -> Result<(), Fault> {
    let mut places = (1..=ASIDE_MAX).map(|number| beside(folder, &format!(".corrupt-{number}")));
    let Some(place) = places.find(|place| !place.exists()) else {
        return Err(Fault::fatal(format!(
            "state: the database in {} is damaged ({why}), and {ASIDE_MAX} damaged ones lie beside it already: \
             look after the disk, then delete the folders {}.corrupt-*",
            folder.display(),
            folder.display()
        )));
    };
    fs::rename(folder, &place).map_err(|error| {
        Fault::fatal(format!(
            "state: the database in {} is damaged ({why}) and cannot be moved aside; move its files away by hand",
            folder.display()
        ))
        .because(error)
    })?;
    tracing::error!(
        folder = %folder.display(),
        moved_to = %place.display(),
        why,
        "the database of the stores is damaged: moved aside for analysis, every store is made again from its changelog; delete the copy when it has been looked at"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene(PathBuf);

    impl Scene {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4().simple()));
            create(&path.join("state")).unwrap();
            Self(path)
        }

        fn folder(&self) -> PathBuf {
            self.0.join("state")
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn the_folder_is_the_owners_alone() {
        let scene = Scene::new();
        fs::set_permissions(scene.folder(), Permissions::from_mode(0o755)).unwrap();
        create(&scene.folder()).unwrap();
        assert_eq!(fs::metadata(scene.folder()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn data_without_current_and_a_mark_are_damage() {
        let scene = Scene::new();
        let folder = scene.folder();
        fs::write(folder.join("MANIFEST-000001"), "x").unwrap();
        fs::write(folder.join("000004.log"), "").unwrap();
        assert_eq!(damage(&folder).unwrap(), None, "a first start that was killed");
        fs::write(folder.join("000008.sst"), "x").unwrap();
        assert!(damage(&folder).unwrap().unwrap().contains("CURRENT"));
        fs::write(folder.join(CURRENT), "x").unwrap();
        assert_eq!(damage(&folder).unwrap(), None);
        mark(&folder, "block checksum mismatch").unwrap();
        assert!(damage(&folder).unwrap().unwrap().contains("block checksum"));
    }

    #[test]
    fn damaged_folders_are_kept_and_counted() {
        let scene = Scene::new();
        let folder = scene.folder();
        for number in 1..=ASIDE_MAX {
            fs::write(folder.join("data"), number.to_string()).unwrap();
            move_aside(&folder, "test").unwrap();
            create(&folder).unwrap();
            let kept = beside(&folder, &format!(".corrupt-{number}")).join("data");
            assert_eq!(fs::read_to_string(kept).unwrap(), number.to_string());
        }
        let refused = move_aside(&folder, "test").unwrap_err();
        assert!(matches!(refused, Fault::Fatal(_)) && folder.exists(), "{refused}");
    }
}
