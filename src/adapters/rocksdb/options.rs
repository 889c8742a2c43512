//! The settings of a user, and the options that follow from them for RocksDB.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, WriteBufferManager, WriteOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Smallest budget that is used: below it blocks and memtables push each other out all the time.
const MEMORY_BYTES_MIN: usize = 8 << 20;
/// Bits of the bloom filter for each key: 1% of the reads of absent keys go to the disk.
const BLOOM_BITS: f64 = 10.0;
/// RocksDB's own log: two files of 1 MiB, so that it never matters for the disk.
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOG_FILES: usize = 2;

/// The handling of a write before it is in a sorted file. All three are sound, since data and checkpoint are one batch; they
/// differ in how much is read again from the changelog, see [the module](super).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAhead {
    /// Nothing is logged: fewest bytes written.
    Off,
    /// Logged, and left to the operating system to bring to the disk.
    #[default]
    Unsynced,
    /// On the disk before a write returns: a disk's latency for each flush of a store.
    Synced,
}

/// The database of one process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocksSettings {
    /// The folder, of this database alone. Created with mode 0700; `<folder>.owner` and `<folder>.corrupt-<n>` lie beside.
    pub folder: PathBuf,
    /// Memory of all stores together, in bytes, independent of their number. 128 MiB: half of it at most for memtables (two
    /// of 32 MiB, one filled while the other is written out), the rest, and the unused part of that half, for blocks with
    /// their indexes and filters. Memtables are charged to the block cache, so that one number bounds both.
    pub memory_bytes: usize,
    /// The handling of a write before it is in a sorted file. `unsynced`: a killed process loses nothing, and the changelog
    /// has the data that a power cut takes.
    pub write_ahead: WriteAhead,
    /// Threads that flush and compact. 2: one of each, beside the workers that decide records.
    pub background_jobs: u16,
    /// Files held open. 512: half of the 1,024 that many systems allow a process.
    pub open_files: u16,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("state"),
            memory_bytes: 128 << 20,
            write_ahead: WriteAhead::default(),
            background_jobs: 2,
            open_files: 512,
        }
    }
}

impl RocksSettings {
    /// The defaults, for the database in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }

    /// The options by which a batch is written.
    pub(super) fn write_options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.write_ahead == WriteAhead::Synced);
        options.disable_wal(self.write_ahead == WriteAhead::Off);
        options
    }

    /// The options by which the database is opened, with blocks and memtables in `cache`.
    pub(super) fn options(&self, cache: &Cache) -> Result<Options, rocksdb::Error> {
        let memory = self.memory_bytes.max(MEMORY_BYTES_MIN);
        // Each write-ahead file notes the last sequence number of the one before: without it a tail that a power cut took
        // from the older of two files leaves a hole, and a checkpoint after the hole would vouch for missing data.
        let mut options = Options::default().get_options_from_string("track_and_verify_wals=true")?;
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);

        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
            memory / 2,
            false,
            cache.clone(),
        ));
        options.set_write_buffer_size(memory / 4);
        options.set_max_write_buffer_number(2);
        options.set_block_based_table_factory(&tables(cache));
        options.set_max_open_files(i32::from(self.open_files.max(64)));

        options.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]); // the last for all below
        options.set_max_background_jobs(i32::from(self.background_jobs.max(1)));

        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_keep_log_file_num(INFO_LOG_FILES);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        Ok(options)
    }

    /// The memory that blocks and memtables share.
    pub(super) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.memory_bytes.max(MEMORY_BYTES_MIN))
    }
}

/// Indexes and filters live in the cache like blocks: held outside, they would grow with the data past any budget.
fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_bloom_filter(BLOOM_BITS, false);
    tables.set_whole_key_filtering(true);
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocksdb::{DB, WriteBatch};
    use std::fs;

    /// The last record's end in the first half of a write-ahead file: 7 bytes of header (checksum, length, type), 32 KiB
    /// blocks.
    fn record_end(bytes: &[u8]) -> usize {
        let (mut at, mut end) = (0, 0);
        while at < bytes.len() / 2 {
            let left = 32_768 - at % 32_768;
            if left < 7 {
                at += left;
                continue;
            }
            let (length, kind) = (u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]), bytes[at + 6]);
            at += 7 + usize::from(length);
            if matches!(kind, 1 | 4) {
                end = at; // whole, or the last part
            }
        }
        end
    }

    /// Two write-ahead files hold the data that are in no sorted file yet; a power cut took the end of the older. Records
    /// behind the hole must not come back, or a checkpoint would vouch for missing ones.
    #[test]
    fn a_hole_in_the_write_ahead_log_ends_it() {
        let folder = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4().simple()));
        let settings = RocksSettings::new(&folder);
        let mut options = settings.options(&settings.cache()).unwrap();
        options.set_write_buffer_size(64 << 10);
        options.set_max_write_buffer_number(8);
        options.set_min_write_buffer_number_to_merge(6); // no memtable is written out before the sixth
        let db = DB::open(&options, &folder).unwrap();
        for number in 0..200_u32 {
            let mut batch = WriteBatch::default();
            batch.put(number.to_be_bytes(), [7; 1_000]);
            batch.put(b"checkpoint", number.to_be_bytes());
            db.write(batch).unwrap();
        }
        drop(db);
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
        logs.sort();
        assert!(logs.len() > 2, "{logs:?}");
        let end = record_end(&fs::read(&logs[0]).unwrap());
        assert!(end > 0);
        fs::File::options().write(true).open(&logs[0]).unwrap().set_len(end as u64).unwrap();

        let db = DB::open(&options, &folder).unwrap();
        let checkpoint = db.get(b"checkpoint").unwrap().unwrap();
        let last = u32::from_be_bytes(checkpoint.try_into().unwrap());
        assert!(last < 199, "the hole was not seen");
        for number in 0..=last {
            assert!(db.get(number.to_be_bytes()).unwrap().is_some(), "{number} is missing below {last}");
        }
        drop(db);
        fs::remove_dir_all(&folder).unwrap();
    }
}
