//! Members of the group that are no instance of this pipeline: what another program is given of its partitions, no instance takes.
//! Asked by a person's command alone: a service that asked now and then while its coordinator was away was ended by an assertion
//! of librdkafka 2.12.1 (`rd_kafka_enq_once_del_source_return`).

use crate::app::halted::instances::Obstacle;
use crate::ports::obstacle::ObstacleKind;

/// The obstacle that one of them is, with the number of its partitions.
pub(super) fn told(pipeline: &str, client: &str, partitions: &[String]) -> Obstacle {
    let cause = match partitions {
        [] => "another program uses the group id, without a partition so far".to_owned(),
        [first, ..] => {
            format!("another program uses the group id, and has {} of its partitions, {first} first", partitions.len())
        }
    };
    let next = format!(
        "end it or give it another group id; `kafka-consumer-groups.sh --describe --group {pipeline} --members` tells its host"
    );
    let sentence = ObstacleKind::ForeignMember.sentence().to_owned();
    Obstacle { about: format!("client {client}"), sentence, cause, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_named_with_what_it_has() {
        let found = told("scoring", "console", &["readings-3".into(), "readings-4".into()]);
        assert_eq!(found.about, "client console");
        assert_eq!(found.cause, "another program uses the group id, and has 2 of its partitions, readings-3 first");
        assert!(found.next.contains("--group scoring --members"));
        assert!(told("scoring", "console", &[]).cause.ends_with("without a partition so far"));
    }
}
