//! For users' tests: the real engine over the in-process log and rows, in one thread, with the clock in hand.
//!
//! The model proves logic: what is decided, written and published, in which order, through crashes and rebalances. It
//! does not prove what servers do (isolation, fencing, lost answers); Tidegate's own tests do that on real Kafka and
//! PostgreSQL.

mod crash;
mod death;
mod disaster;
mod driver;
mod explorer;
mod guard;
mod interpreter;
mod judge;
mod kept;
mod observed;
mod random;
mod script;
mod simulation;
mod stall;
mod timers;
mod watch;

pub use death::die;
pub use driver::{Sent, TestDriver};
pub use explorer::Explorer;
pub use guard::Guard;
pub use judge::{Finding, KINDS};
pub use observed::{Event, Inside, Ledger, Message, Observed, Progress, Row, Standstill};
pub use random::Random;
pub use script::run_script;
pub use simulation::{Act, COMMIT_STEPS, Disaster, FAILURES, Failure, Sending, Shape, Simulation};
pub use stall::stall;
