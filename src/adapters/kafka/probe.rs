//! Whether a producer of transactions may begin, tried once before any work with an id that nobody else has.

use super::fault::by_error;
use super::ffi::{self, Parting};
use super::properties::Silent;
use super::settings::KafkaSettings;
use crate::ports::fault::Fault;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer as _};
use std::time::Duration;

/// The time for the cluster to answer.
const WAIT: Duration = Duration::from_secs(10);

/// What the cluster says to the start of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It may begin; or there was no answer, which a start finds out by itself.
    Open,
    /// This user has no right to the transactional id.
    Denied,
    /// Transactions may not take as long as the settings have it.
    TooLong,
}

/// Starts a producer under `transactional_id`, which no other has, and lets it go. The cluster remembers the id for a week
/// (`transactional.id.expiration.ms`). Takes 10 s at most.
///
/// # Errors
/// `Fatal` when the settings make no producer.
pub fn try_start(settings: &KafkaSettings, transactional_id: &str) -> Result<Start, Fault> {
    let mut config = settings.transactional(transactional_id)?;
    config.remove("debug").set_log_level(RDKafkaLogLevel::Emerg);
    let made: Result<BaseProducer<Silent>, _> = config.create_with_context(Silent);
    let producer = Parting::new(made.map_err(|error| by_error(&error, "producer"))?);
    ffi::await_metadata(producer.client(), WAIT);
    let code = producer.init_transactions(WAIT).err().and_then(|error| error.rdkafka_error_code());
    Ok(match code {
        Some(Code::TransactionalIdAuthorizationFailed) => Start::Denied,
        Some(Code::InvalidTransactionTimeout) => Start::TooLong,
        _ => Start::Open,
    })
}
