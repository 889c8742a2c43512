//! `tidegate` as a process on a real Kafka and a real PostgreSQL: killed, stopped, starved of its servers, fed with
//! nonsense, set up wrongly. Needs SYSTEM_TESTS=1; each test prints that it was skipped otherwise.
//!
//! Each test has a broker, a database server and a folder of its own (`rig::World`), two tests at a time, or more that mostly wait. The judge is
//! `tidegate audit` together with a one-by-one computation of every row and every notice (`rig::Reference`); under the
//! load it is the oracle (`reader`, `laws`; its own tests: tests/oracle). A failed test leaves its folder with the
//! instances' logs and says where.
#![cfg(all(feature = "kafka", feature = "postgres"))]
#![allow(clippy::disallowed_methods, reason = "a test of processes measures real time")]

#[cfg(feature = "rocksdb")]
mod attribution;
mod chaos;
mod cluster;
#[cfg(feature = "failpoints")]
mod database;
mod deaths;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
mod drawn;
mod faults;
#[cfg(feature = "rocksdb")]
mod folders;
#[cfg(feature = "failpoints")]
mod forged;
#[cfg(feature = "failpoints")]
mod guards;
mod halts;
#[cfg(feature = "rocksdb")]
mod home;
#[cfg(feature = "rocksdb")]
mod household;
mod input;
#[cfg(feature = "rocksdb")]
mod joins;
#[cfg(feature = "rocksdb")]
mod keyed;
mod keyed_setup;
#[cfg(feature = "failpoints")]
mod late;
#[path = "../oracle/laws/mod.rs"]
mod laws;
mod life;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
#[allow(dead_code, reason = "what is drawn for the simulation alone")]
#[path = "../draw/literal.rs"]
mod literal;
mod load;
#[cfg(feature = "failpoints")]
mod matrix;
#[cfg(feature = "rocksdb")]
mod meters;
#[cfg(feature = "failpoints")]
mod network;
mod obstacles;
mod operation;
#[cfg(feature = "rocksdb")]
mod payments;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
#[path = "../draw/pipeline.rs"]
mod pipeline;
#[path = "../oracle/reader/mod.rs"]
mod reader;
mod readme;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
#[path = "../draw/real.rs"]
mod real;
mod repairs;
#[cfg(feature = "rocksdb")]
mod repairs_keyed;
mod rig;
#[cfg(feature = "rocksdb")]
#[path = "../home/mod.rs"]
mod rolled;
#[cfg(feature = "rocksdb")]
mod rowjoins;
#[cfg(feature = "rocksdb")]
mod rowstate;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
#[allow(dead_code, reason = "what is drawn for the simulation alone")]
#[path = "../draw/scenario.rs"]
mod scenario;
#[cfg(feature = "rocksdb")]
mod scene;
mod secrets;
#[cfg(feature = "rocksdb")]
mod sessions;
mod setup;
#[cfg(feature = "failpoints")]
mod sqlstates;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
mod state;
#[cfg(feature = "failpoints")]
mod statements;
#[cfg(all(feature = "rocksdb", feature = "failpoints"))]
mod upkeep;
#[cfg(feature = "rocksdb")]
#[path = "../meters/mod.rs"]
mod waiting;
#[path = "../setups/mod.rs"]
mod wrong;
