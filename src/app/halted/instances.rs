//! What the running instances say of their partitions: some halts nobody else sees. Where an instance cannot be asked, it is
//! said of its partitions that nothing is known.

use crate::engine::protocol::decision::HaltReason;
use crate::flow::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// A halt reported by one instance, or one that every instance would come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) reason: HaltReason,
    pub(super) detail: String,
}

/// The answer of one instance: its halts, and the state of each of its partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) halts: Vec<(String, Seen)>,
    pub(super) states: BTreeMap<String, String>,
    /// What keeps it from its work although nothing is halted.
    pub(super) obstacles: Vec<Obstacle>,
}

/// One obstacle, as an instance tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "http", derive(serde::Deserialize))]
pub(super) struct Obstacle {
    pub(super) about: String,
    pub(super) sentence: String,
    pub(super) cause: String,
    pub(super) next: String,
}

/// The group as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pub(super) count: usize,
    /// The address that the owner of a lead topic's partition gave to the group; empty where it has none.
    pub(super) owners: BTreeMap<TopicPartition, String>,
}

/// What is known of all partitions together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) halts: BTreeMap<String, Seen>,
    /// Partitions of lead topics that take no records yet, with what their owner does.
    pub(super) waiting: BTreeMap<String, String>,
    /// Partitions of lead topics of which no instance told anything, with the reason.
    pub(super) unknown: BTreeMap<String, String>,
    /// What keeps instances from their work although nothing is halted.
    pub(super) obstacles: BTreeSet<Obstacle>,
    pub(super) members: usize,
    pub(super) answered: usize,
}

/// Puts the answers together. `leads` are the partitions of the lead topics, each of which stands for its task.
pub(super) fn put_together(
    leads: &[TopicPartition],
    members: &Members,
    answers: &BTreeMap<String, Result<Answer, String>>,
) -> Told {
    let is_answer = |answer: &&Result<Answer, String>| answer.is_ok();
    let answered = answers.values().filter(is_answer).count();
    let mut told = Told { members: members.count, answered, ..Told::default() };
    for answer in answers.values().flatten() {
        told.halts.extend(answer.halts.iter().cloned());
        told.obstacles.extend(answer.obstacles.iter().cloned());
    }
    if members.count == 0 {
        return told;
    }
    for lead in leads {
        let name = lead.to_string();
        let Some(address) = members.owners.get(lead) else {
            told.unknown.insert(name, "nobody owns it now: the group is handing out its partitions; ask again".into());
            continue;
        };
        match answers.get(address) {
            Some(Ok(answer)) => match answer.states.get(&name).map(String::as_str) {
                Some("running" | "halted") => {}
                Some(state) => {
                    told.waiting
                        .insert(name, format!("is being taken over by the instance at {}: {state}", place(address)));
                }
                None => {
                    told.waiting.insert(name, format!("is handed to the instance at {}", place(address)));
                }
            },
            Some(Err(why)) => {
                told.unknown.insert(name, format!("{why}; its log says whether it is halted"));
            }
            None => {
                told.unknown.insert(name, "its instance was not asked".into());
            }
        }
    }
    told
}

/// The address without what names its network.
fn place(told: &str) -> &str {
    told.split_once('#').map_or(told, |(address, _)| address)
}

/// Asks every owner, side by side.
#[cfg(feature = "http")]
pub(super) fn ask_all(pipeline: &str, members: &Members) -> BTreeMap<String, Result<Answer, String>> {
    /// Instances asked at a time.
    const AT_A_TIME: usize = 16;
    let addresses: BTreeSet<&String> = members.owners.values().collect();
    let addresses: Vec<&String> = addresses.into_iter().collect();
    let panicked = || Err("the question to its instance failed".to_owned());
    let mut answers = BTreeMap::new();
    for some in addresses.chunks(AT_A_TIME) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|address| scope.spawn(move || ask(pipeline, address))).collect();
            for (address, answer) in some.iter().zip(asked) {
                answers.insert((*address).clone(), answer.join().unwrap_or_else(|_| panicked()));
            }
        });
    }
    answers
}

#[cfg(not(feature = "http"))]
pub(super) fn ask_all(_: &str, members: &Members) -> BTreeMap<String, Result<Answer, String>> {
    let unasked = || Err("this build asks no instance (feature `http`)".to_owned());
    members.owners.values().map(|address| (address.clone(), unasked())).collect()
}

/// The answer of the instance that gave this address to the group, or the reason why there is none.
#[cfg(feature = "http")]
fn ask(pipeline: &str, told: &str) -> Result<Answer, String> {
    use crate::http::{client, place};
    use serde::Deserialize;
    use std::time::Duration;

    /// Longest time for an instance's answer.
    const WITHIN: Duration = Duration::from_secs(3);

    #[derive(Deserialize)]
    struct Status {
        pipeline: String,
        halts: Vec<Halt>,
        tasks: Vec<Task>,
        #[serde(default)] // of an earlier release
        obstacles: Vec<Obstacle>,
    }

    #[derive(Deserialize)]
    struct Halt {
        source: String,
        reason: String,
        detail: String,
    }

    #[derive(Deserialize)]
    struct Task {
        state: String,
        inputs: Vec<Input>,
    }

    #[derive(Deserialize)]
    struct Input {
        source: String,
    }

    let Some(address) = place::reachable(told).filter(|address| !address.is_empty()) else {
        let shown = self::place(told);
        return Err(if shown.is_empty() {
            "its instance gave the group no address (http.address, http.advertised_address)".into()
        } else {
            format!("its instance listens at {shown} on another machine only (http.advertised_address)")
        });
    };
    let answer = client::get(address, "/status", &[], WITHIN)
        .map_err(|error| format!("its instance at {address} does not answer ({error})"))?;
    let status: Status =
        serde_json::from_str(&answer.body).map_err(|_| format!("what answers at {address} is not Tidegate"))?;
    if status.pipeline != pipeline {
        return Err(format!("at its instance's address {address} answers pipeline {}", status.pipeline));
    }
    let seen = |Halt { source, reason, detail }: Halt| {
        let reason = HaltReason::ALL.into_iter().find(|known| known.label() == reason)?;
        Some((source, Seen { reason, detail }))
    };
    let state = |task: Task| task.inputs.into_iter().map(move |input| (input.source, task.state.clone()));
    Ok(Answer {
        halts: status.halts.into_iter().filter_map(seen).collect(),
        states: status.tasks.into_iter().flat_map(state).collect(),
        obstacles: status.obstacles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::{Partition, TopicName};

    fn lead(number: i32) -> TopicPartition {
        TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(number))
    }

    fn answer(states: &[(i32, &str)]) -> Answer {
        let state = |(number, state): &(i32, &str)| (lead(*number).to_string(), (*state).to_owned());
        Answer { states: states.iter().map(state).collect(), ..Answer::default() }
    }

    #[test]
    fn each_partition_runs_or_waits_or_is_halted_or_nobody_told_of_it() {
        let at = |number: i32, address: &str| (lead(number), address.to_owned());
        let owners = [at(0, "a:1"), at(1, "a:1"), at(2, "b:2"), at(3, "c:3#host"), at(5, "d:4")].into();
        let mut first = answer(&[(0, "running"), (1, "halted")]);
        let seen = Seen { reason: HaltReason::SchemaChanged, detail: "no column".into() };
        first.halts.push(("readings-1".into(), seen.clone()));
        let [about, sentence, cause, next] = ["readings 0", "it stands", "a lock", "wait"].map(str::to_owned);
        let obstacle = Obstacle { about, sentence, cause, next };
        first.obstacles.push(obstacle.clone());
        let silent = || Err("its instance at b:2 does not answer (refused)".to_owned());
        let answers = [
            ("a:1".to_owned(), Ok(first)),
            ("b:2".into(), silent()),
            ("c:3#host".into(), Ok(answer(&[(3, "claiming")]))),
            ("d:4".into(), Ok(answer(&[]))),
        ];
        let told = put_together(&(0..6).map(lead).collect::<Vec<_>>(), &Members { count: 4, owners }, &answers.into());
        assert_eq!(told.halts, [("readings-1".to_owned(), seen)].into());
        let waiting = [
            ("readings-3", "is being taken over by the instance at c:3: claiming"),
            ("readings-5", "is handed to the instance at d:4"),
        ];
        let unknown = [
            ("readings-2", "its instance at b:2 does not answer (refused); its log says whether it is halted"),
            ("readings-4", "nobody owns it now: the group is handing out its partitions; ask again"),
        ];
        let owned = |pairs: [(&str, &str); 2]| pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        assert_eq!((told.waiting, told.unknown), (owned(waiting), owned(unknown)));
        assert_eq!((told.members, told.answered, told.obstacles), (4, 3, [obstacle].into()));
    }

    #[test]
    fn without_any_instance_there_is_nobody_to_ask() {
        assert_eq!(put_together(&[lead(0)], &Members::default(), &BTreeMap::new()), Told::default());
    }

    #[cfg(feature = "http")]
    mod asked {
        use super::*;
        use crate::engine::protocol::halt::Halt;
        use crate::engine::status::{State, Status, TaskStatus};
        use crate::http::{About, View, serve};
        use crate::ports::obstacle::{ObstacleKind, Reason};
        use crate::ports::source::TaskId;
        use std::sync::Arc;

        struct Instance(Status);

        impl View for Instance {
            fn status(&self) -> &Status {
                &self.0
            }

            fn about(&self) -> About {
                About { pipeline: "scoring".into(), place: "a test".into() }
            }
        }

        #[test]
        fn what_only_an_instance_sees_is_asked_of_it_and_of_no_other_pipelines() {
            let status = Status::default();
            let (source, detail) = (lead(3), "column score does not exist".to_owned());
            let reason = HaltReason::SchemaChanged;
            let halt =
                Halt { source, reason, next_offset: None, committed: None, detail: detail.clone(), choices: vec![] };
            let id = |number| TaskId { sub_topology: 0, partition: Partition(number) };
            let inputs = |number| vec![(lead(number).to_string(), 0, 0)];
            status.set_task(id(3), TaskStatus { state: State::Halted, inputs: inputs(3), halt: Some(halt) });
            let wait = vec![("broker 1".to_owned(), Reason::new("a quota", "raise it"))];
            status.obstacles.report(ObstacleKind::Throttled, "source", wait);
            status.set_task(id(4), TaskStatus { state: State::Running, inputs: inputs(4), halt: None });
            let server = serve("127.0.0.1:0".parse().unwrap(), Arc::new(Instance(status))).unwrap();
            let address = crate::http::place::told(&server.address().to_string()).unwrap();
            let expected = Answer {
                halts: vec![("readings-3".into(), Seen { reason, detail })],
                obstacles: vec![Obstacle {
                    about: "broker 1".into(),
                    sentence: ObstacleKind::Throttled.sentence().into(),
                    cause: "a quota".into(),
                    next: "raise it".into(),
                }],
                ..answer(&[(3, "halted"), (4, "running")])
            };
            assert_eq!(ask("scoring", &address), Ok(expected));
            let shown = place(&address);
            let stranger = format!("at its instance's address {shown} answers pipeline scoring");
            assert_eq!(ask("another", &address), Err(stranger));
            drop(server);
            let silent = ask("scoring", &address).unwrap_err();
            assert!(silent.starts_with(&format!("its instance at {shown} does not answer (")), "{silent}");
            assert!(ask("scoring", "").unwrap_err().contains("no address"));
            assert!(ask("scoring", "127.0.0.1:8230#elsewhere-7").unwrap_err().contains("on another machine only"));
        }
    }
}
