//! The engine through the test driver: no network, no database, no runtime.

mod contested;
mod crashes;
mod deaths;
mod filters;
mod guards;
mod halts;
mod joins;
mod keyed;
mod net;
mod pending;
mod pipeline;
mod placement;
mod poison;
mod portions;
mod query;
mod repairs;
mod reported;
mod rowstate;
mod scripts;
mod sessions;
mod tables;
mod times;
mod traces;
mod trouble;
mod usage;
mod values;
