//! Files beside the process: the folder of keyed state, the note of the records in hand.

use crate::adapters::note::FileNote;
use crate::app::application::check_build;
use crate::app::failure::Failure;
use crate::app::service::Service;

use crate::ports::Fault;
use crate::ports::note::Note;
use crate::ports::store::Stores;
use crate::settings::StateSettings;
use std::path::Path;
use std::sync::Arc;

/// Opens the folder of the pipeline's stores; `None` for a pipeline that keeps none.
///
/// # Errors
/// `Setup` where this build cannot keep state; what the adapter says where the folder cannot be used.
pub(super) fn open_stores(service: &Service) -> Result<Option<Arc<dyn Stores>>, Failure> {
    let topology = &service.topology;
    if topology.sub_topologies().iter().all(|sub| sub.stores.is_empty()) {
        return Ok(None);
    }
    check_build(topology)?;
    let state = &service.settings.state;
    let folder = Path::new(&state.dir).join(topology.name());
    let stores = open(&folder, state)?;
    if let Some(kind) = ephemeral(&folder) {
        tracing::warn!(
            folder = %folder.display(),
            filesystem = kind,
            "state.dir lies on a filesystem that does not outlive this machine or container: after each restart all state \
             is restored from the changelogs; name a folder on a volume"
        );
    }
    Ok(Some(stores))
}

/// Opens the note of the records in hand, beside the stores; without one the service runs all the same.
pub(super) fn open_note(service: &Service) -> Option<Arc<dyn Note>> {
    let folder = Path::new(&service.settings.state.dir).join(format!("{}.in-hand", service.topology.name()));
    match FileNote::open(&folder, &service.topology.sources()) {
        Ok(note) => Some(Arc::new(note)),
        Err(fault) => {
            tracing::warn!(error = %fault, "a record that kills the process will do so for ever, since its deaths cannot be counted: let state.dir name a folder that can be written and outlives the process");
            None
        }
    }
}

#[cfg(feature = "rocksdb")]
fn open(folder: &Path, state: &StateSettings) -> Result<Arc<dyn Stores>, Fault> {
    use crate::adapters::rocksdb::{RocksSettings, RocksStores};
    let memory_bytes = usize::try_from(state.memory_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    let stores = RocksStores::open(&RocksSettings { memory_bytes, ..RocksSettings::new(folder) })?;
    Ok(Arc::new(stores))
}

#[cfg(not(feature = "rocksdb"))]
fn open(folder: &Path, _: &StateSettings) -> Result<Arc<dyn Stores>, Fault> {
    Err(Fault::fatal(format!("state: this build opens no {}", folder.display())))
}

/// The kind of filesystem, where what lies in `folder` goes with the machine's memory or with the container.
fn ephemeral(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let folder = folder.canonicalize().ok()?;
    let kind = filesystem_of(&mounts, &folder)?;
    matches!(kind, "tmpfs" | "ramfs" | "overlay").then(|| kind.into())
}

/// The kind of filesystem that `folder` lies on, by the lines of `/proc/self/mountinfo` (proc(5)): the mount point is the
/// fifth field, the kind the first one after the lone hyphen. The last of several mounts on one point counts.
fn filesystem_of<'m>(mounts: &'m str, folder: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        folder.starts_with(&point).then_some((point.len(), kind.split(' ').next()?))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "rocksdb"))]
    use crate::app::exit::Exit;
    #[cfg(not(feature = "rocksdb"))]
    use crate::pipelines::{scoring, usage};
    #[cfg(not(feature = "rocksdb"))]
    use crate::settings::{Scrubber, Settings, Sources};

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn state_without_the_adapter_is_a_wrong_set_up_and_no_state_asks_for_nothing() {
        let service =
            |topology| Service::new(&topology, Settings::load(&topology, Sources::default()).unwrap()).unwrap();
        assert!(open_stores(&service(scoring::topology())).unwrap().is_none());
        let mut told = Vec::new();
        let exit = open_stores(&service(usage::topology())).err().unwrap().report(&mut told, &Scrubber::default());
        let expected = "pipeline usage keeps state (usage), and this build has no RocksDB adapter: build it with --features rocksdb\n";
        assert_eq!((exit, String::from_utf8(told).unwrap().as_str()), (Exit::Misconfigured, expected));
    }

    #[test]
    fn the_filesystem_of_a_folder_is_that_of_the_nearest_mount() {
        let mounts = "22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a\n\
                      23 22 8:1 /data /var/lib/state rw - ext4 /dev/sda1 rw\n\
                      24 22 0:21 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw\n\
                      25 22 0:22 / /with\\040space rw - xfs /dev/sdb rw\n";
        let of = |folder: &str| filesystem_of(mounts, Path::new(folder));
        assert_eq!(of("/srv/state"), Some("overlay"));
        assert_eq!(of("/var/lib/state/usage"), Some("ext4"));
        assert_eq!(of("/var/lib/stateful"), Some("overlay"), "only whole names are compared");
        assert_eq!(of("/tmp/state"), Some("tmpfs"));
        assert_eq!(of("/with space/state"), Some("xfs"));
        assert_eq!(filesystem_of("", Path::new("/")), None);
    }
}
