//! The judge is judged: the traces of clean runs are falsified, one thing at a time, and each time it must report the
//! right kind.

use crate::pipeline::Asked;
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use tidegate::flow::Topology;
use tidegate::flow::record::{Header, NextOffset, Offset, TopicName, TopicPartition};
use tidegate::flow::row::Value;
use tidegate::testing::{Event, KINDS, Message, Observed, Standstill};

/// A kind that the judge must say, and how a run is falsified for it: `None` where this run has nothing of the sort.
type Lie = (&'static str, &'static str, fn(&mut Observed, &Topology) -> Option<()>);

const LIES: &[Lie] = &[
    ("order", "two records of a key change places", |seen, _| {
        let of = |event: &Event| match event {
            Event::Decided(place, offset, true) => Some((place.clone(), *offset)),
            _ => None,
        };
        let key = |seen: &Observed, (place, offset): &(TopicPartition, Offset)| {
            let found = seen.log.get(place)?.iter().find(|message| message.offset == *offset)?;
            Some((place.clone(), found.key.clone()))
        };
        let keys: Vec<_> = seen.events.iter().map(|event| key(seen, &of(event)?)).collect();
        let (one, other) = pair(&keys, |one, other| one.is_some() && one == other)?;
        seen.events.swap(one, other);
        Some(())
    }),
    ("wrongly-keyed", "a record that halts is decided", |seen, _| {
        let halt = seen.halts.iter().find(|halt| halt.reason == "wrongly-keyed")?;
        let decided = seen.progress.get(&halt.source)?.decided.unwrap_or(NextOffset(0));
        let next = seen.log.get(&halt.source)?.iter().find(|message| decided.is_before(message.offset))?;
        seen.events.push(Event::Decided(halt.source.clone(), next.offset, false));
        Some(())
    }),
    ("row", "a row is gone", |seen, _| seen.rows.pop_first().map(drop)),
    ("row", "a row is there that nobody put", |seen, _| {
        let ((table, _), row) = seen.rows.first_key_value()?;
        let more = ((table.clone(), "nobody's".into()), row.clone());
        seen.rows.extend([more]);
        Some(())
    }),
    ("row", "a column is missing", |seen, _| seen.rows.values_mut().next()?.values.remove("note").map(drop)),
    ("row", "a column is too many", |seen, _| {
        seen.rows.values_mut().next()?.values.insert("more".into(), Value::I64(1));
        Some(())
    }),
    ("row", "a number is one unit off", |seen, _| {
        let row =
            seen.rows.values_mut().find(|row| matches!(row.values.get("sum"), Some(Value::F64(sum)) if *sum > 0.0))?;
        let Some(Value::F64(sum)) = row.values.get_mut("sum") else { return None };
        *sum = f64::from_bits(sum.to_bits() + 1);
        Some(())
    }),
    ("row-type", "a column has another type", |seen, _| {
        seen.rows.values_mut().next()?.values.insert("count".into(), Value::Text("0".into()));
        Some(())
    }),
    ("row-version", "a version is one too high", |seen, _| {
        seen.rows.values_mut().next()?.version += 1;
        Some(())
    }),
    ("topic", "a topic that nobody knows", |seen, _| {
        let (place, messages) = seen.log.first_key_value()?;
        let place = TopicPartition::new(TopicName::parse("nobodys").ok()?, place.partition);
        let messages = messages.clone();
        seen.log.insert(place, messages);
        Some(())
    }),
    ("notice-missing", "a notice is dropped", |seen, _| drop_one(seen, &is_notice)),
    ("dead-letter-missing", "a dead letter is dropped", |seen, _| drop_one(seen, &is_dead_letter)),
    ("message-twice", "a notice is there twice", |seen, _| twice(seen, &is_notice)),
    ("message-twice", "a dead letter is there twice", |seen, _| twice(seen, &is_dead_letter)),
    ("message-unexpected", "a notice of no record", |seen, _| {
        change(seen, &is_notice, |message| set(message, "tg_id", b"drawn/in-0/0/4711/0"))
    }),
    ("message-unexpected", "an id with an incarnation", |seen, _| {
        change(seen, &is_notice, |message| {
            let id = [header(message, "tg_id")?, b"/1"].concat();
            set(message, "tg_id", &id)
        })
    }),
    ("message-partition", "a notice lies elsewhere", |seen, _| {
        if seen.partitions < 2 {
            return None;
        }
        let (place, at) = find(seen, &|place, message| is_notice(place, message) && message.key.is_some())?;
        let moved = seen.log.get_mut(&place)?.remove(at);
        let mut to = place.clone();
        to.partition.0 = (place.partition.0 + 1) % seen.partitions;
        seen.log.entry(to).or_default().push(moved);
        Some(())
    }),
    ("message-key", "a notice has another key", |seen, _| change(seen, &is_notice, another_key)),
    ("message-key", "a dead letter has another key", |seen, _| change(seen, &is_dead_letter, another_key)),
    ("notice-value", "a notice has another value", |seen, _| change(seen, &is_notice, another_value)),
    ("notice-version", "a notice tells of another version", |seen, _| {
        change(seen, &|_, message| header(message, "tg_version").is_some(), |message| {
            set(message, "tg_version", b"4711")
        })
    }),
    ("notice-version", "a notice tells of no version", |seen, _| {
        change(seen, &|_, message| header(message, "tg_version").is_some(), |message| unset(message, "tg_version"))
    }),
    ("notice-time", "a notice has another event time", |seen, _| {
        change(seen, &is_notice, |message| {
            message.timestamp.0 += 1;
            Some(())
        })
    }),
    ("notice-header", "its other id differs", |seen, _| {
        change(seen, &is_notice, |message| set(message, "ce_id", b"x"))
    }),
    ("notice-header", "its type differs", |seen, _| change(seen, &is_notice, |message| set(message, "ce_type", b"x"))),
    ("notice-header", "its source differs", |seen, _| {
        change(seen, &is_notice, |message| set(message, "ce_source", b"x"))
    }),
    ("notice-header", "it is from the future", |seen, _| {
        change(seen, &is_notice, |message| set(message, "ce_time", b"9026-01-01T00:00:00.000Z"))
    }),
    ("notice-header", "a header is missing", |seen, _| {
        change(seen, &is_notice, |message| unset(message, "content-type"))
    }),
    ("notice-header", "a header is too many", |seen, _| {
        change(seen, &is_notice, |message| {
            message.headers.push(Header::new("trace", *b"x"));
            Some(())
        })
    }),
    ("notice-header", "its threshold differs", |seen, _| {
        let has_threshold = |_: &TopicPartition, message: &Message| header(message, "tg_threshold").is_some();
        change(seen, &has_threshold, |message| set(message, "tg_threshold", b"4711"))
    }),
    ("dead-letter-code", "a dead letter has another code", |seen, _| {
        change(seen, &is_dead_letter, |message| set(message, "kafka_dlt-exception-fqcn", b"other"))
    }),
    ("dead-letter-value", "a dead letter has another value", |seen, _| change(seen, &is_dead_letter, another_value)),
    ("dead-letter-value", "a dead letter lacks a value that would fit", |seen, _| {
        let is_small = |place: &TopicPartition, message: &Message| {
            let headers = message.headers.iter().map(|header| header.value.as_ref().map_or(0, Vec::len));
            let bytes = message.value.as_ref().map_or(usize::MAX / 2, Vec::len) + headers.sum::<usize>();
            is_dead_letter(place, message) && bytes < 2_000
        };
        change(seen, &is_small, |message| {
            let bytes = message.value.take()?.len();
            message.headers.push(Header::new("tg_value_omitted_bytes", bytes.to_string()));
            Some(())
        })
    }),
    ("dead-letter-header", "a dead letter is of another offset", |seen, _| {
        change(seen, &is_dead_letter, |message| set(message, "kafka_dlt-original-offset", &4_711_i64.to_be_bytes()))
    }),
    ("dead-letter-header", "a dead letter is of another time", |seen, _| {
        change(seen, &is_dead_letter, |message| set(message, "kafka_dlt-original-timestamp", &1_i64.to_be_bytes()))
    }),
    ("dead-letter-header", "a dead letter lacks its message", |seen, _| {
        change(seen, &is_dead_letter, |message| unset(message, "kafka_dlt-exception-message"))
    }),
    ("dead-letter-header", "a dead letter has lost a header of its record", |seen, _| {
        change(
            seen,
            &|place, message| is_dead_letter(place, message) && header(message, "trace").is_some(),
            |message| unset(message, "trace"),
        )
    }),
    ("foreign-header", "a notice has two ids", |seen, _| {
        change(seen, &is_notice, |message| {
            message.headers.insert(0, Header::new("tg_id", *b"theirs"));
            Some(())
        })
    }),
    ("foreign-header", "a record that was sent on has an id", |seen, topology| {
        change_sent_on(seen, topology, |message| {
            message.headers.push(Header::new("tg_id", *b"theirs"));
            Some(())
        })
    }),
    ("record-missing", "a record that was sent on is dropped", |seen, topology| {
        let (place, at) = find(seen, &|place, _| is_sent_on(place, topology))?;
        seen.log.get_mut(&place)?.remove(at);
        Some(())
    }),
    ("record-missing", "a record that was sent on has lost a header", |seen, topology| {
        let has_one = |place: &TopicPartition, message: &Message| {
            is_sent_on(place, topology) && header(message, "trace").is_some()
        };
        change(seen, &has_one, |message| unset(message, "trace"))
    }),
    ("record-missing", "a record that was sent on has another key", |seen, topology| {
        change_sent_on(seen, topology, another_key)
    }),
    ("record-unexpected", "a record was sent on twice", |seen, topology| {
        twice(seen, &|place, _| is_sent_on(place, topology))
    }),
    ("record-unexpected", "a record that was sent on has a header twice", |seen, topology| {
        change_sent_on(seen, topology, |message| {
            message.headers.push(Header::new("trace", *b"x"));
            Some(())
        })
    }),
    ("record-order", "two records that were sent on change places", |seen, topology| {
        let internal = topology.internal_topics();
        // The two are records of one source partition, so of a pipeline with one partition; and each is unlike any other.
        let of_one = |place: &&TopicPartition| internal.contains(&place.topic) && seen.partitions == 1;
        let swapped = |place: &TopicPartition| {
            let all = &seen.log[place];
            let is_single = |one: &Message| {
                all.iter().filter(|other| (&other.key, &other.value) == (&one.key, &one.value)).count() == 1
            };
            pair(all, |one, other| one.key == other.key && is_single(one) && is_single(other))
        };
        let place = seen.log.keys().filter(of_one).find(|place| swapped(place).is_some())?.clone();
        let (one, other) = swapped(&place)?;
        exchange(seen.log.get_mut(&place)?, one, other);
        Some(())
    }),
    ("message-order", "two notices change places", |seen, _| {
        let source = |message: &Message| {
            let id = String::from_utf8(header(message, "tg_id")?.to_vec()).ok()?;
            Some(id.rsplitn(3, '/').nth(2)?.to_owned())
        };
        let is_like = |one: &Message, other: &Message| source(one).is_some() && source(one) == source(other);
        let at_the_end = seen.log.iter().filter(|(place, _)| is_at_the_end(place));
        let place = at_the_end.into_iter().find(|(_, messages)| pair(messages, is_like).is_some())?.0.clone();
        let (one, other) = pair(&seen.log[&place], is_like)?;
        exchange(seen.log.get_mut(&place)?, one, other);
        Some(())
    }),
    ("store", "a value is gone", |seen, topology| {
        let (place, at) = find(seen, &|place, message| is_last_of_store(seen, place, message, topology))?;
        seen.log.get_mut(&place)?.remove(at);
        Some(())
    }),
    ("store", "a value that nobody wrote", |seen, topology| {
        let (place, at) = find(seen, &|place, message| is_last_of_store(seen, place, message, topology))?;
        let messages = seen.log.get_mut(&place)?;
        let mut more = messages[at].clone();
        another_key(&mut more)?;
        messages.push(more);
        Some(())
    }),
    ("store", "a value has another content", |seen, topology| {
        let (place, at) = find(seen, &|place, message| is_last_of_store(seen, place, message, topology))?;
        another_value(seen.log.get_mut(&place)?.get_mut(at)?)
    }),
    ("store", "a value lives for longer", |seen, topology| {
        let is_timed = |place: &TopicPartition, message: &Message| {
            is_last_of_store(seen, place, message, topology)
                && message.value.as_ref().is_some_and(|value| value[0] == 2)
        };
        let (place, at) = find(seen, &is_timed)?;
        seen.log.get_mut(&place)?[at].value.as_mut()?[7] ^= 1;
        Some(())
    }),
    ("store-expired", "an expired value is left", |seen, topology| {
        let (place, at) = find(seen, &|place, message| is_clock(place, message, topology))?;
        let messages = seen.log.get_mut(&place)?;
        let mut more = messages[at].clone();
        (more.key, more.value) = (Some(b"1".to_vec()), Some([&[2][..], &[0; 8], b"\x01{}"].concat()));
        messages.push(more);
        Some(())
    }),
    ("store", "an expired value lives on", |seen, topology| {
        let changelogs = changelogs(topology);
        let is_end = |place: &TopicPartition, message: &Message| {
            let messages = &seen.log[place];
            changelogs.contains(&place.topic) && message.value.is_none() && is_last(messages, message)
        };
        let (place, at) = find(seen, &is_end)?;
        seen.log.get_mut(&place)?[at].value = Some([&[2][..], &i64::MAX.to_be_bytes(), b"\x01{}"].concat());
        Some(())
    }),
    ("store-changelog", "a disk holds a key more", |seen, _| {
        let kept = seen.inside.as_mut()?.kept.values_mut().next()?;
        kept.insert(b"more".to_vec(), b"\x01\x01{}".to_vec());
        Some(())
    }),
    ("store-changelog", "nobody serves a store", |seen, _| {
        if !seen.halts.is_empty() {
            return None;
        }
        seen.inside.as_mut()?.kept.pop_first().map(drop)
    }),
    ("clock", "a clock is one millisecond off", |seen, topology| {
        let (place, _) = find(seen, &|place, message| is_clock(place, message, topology))?;
        let messages = seen.log.get_mut(&place)?;
        let clock = messages.iter_mut().rev().find(|message| message.key.as_deref() == Some(CLOCK))?;
        *clock.value.as_mut()?.last_mut()? ^= 1;
        Some(())
    }),
    ("clock", "a clock is missing", |seen, topology| {
        if !seen.halts.is_empty() {
            return None;
        }
        let (place, _) = find(seen, &|place, message| is_clock(place, message, topology))?;
        seen.log.get_mut(&place)?.retain(|message| message.key.as_deref() != Some(CLOCK));
        Some(())
    }),
    ("progress", "K is one record behind", |seen, _| {
        let committed = &mut seen.progress.values_mut().find(|progress| progress.committed.is_some())?.committed;
        *committed = committed.map(|at| NextOffset(at.0 - 1));
        seen.halts.is_empty().then_some(())
    }),
    ("progress", "D and K lie behind the end", |seen, _| {
        let progress = seen.progress.values_mut().find(|progress| progress.committed.is_some())?;
        let further = progress.end.map(|end| NextOffset(end.0 + 1));
        (progress.decided, progress.committed) = (further, further);
        Some(())
    }),
    ("progress", "P is one record ahead", |seen, _| {
        let progress = seen.progress.values_mut().find(|progress| progress.published.is_some())?;
        progress.published = progress.committed.map(|at| NextOffset(at.0 + 1));
        Some(())
    }),
    ("progress", "what was decided is in no log", |seen, _| {
        let is_source =
            |place: &TopicPartition| place.topic.as_str().starts_with("in-") && seen.progress.contains_key(place);
        let (place, at) = find(seen, &|place, _| is_source(place))?;
        seen.log.get_mut(&place)?.remove(at);
        seen.gone.clear();
        seen.halts.is_empty().then_some(())
    }),
    ("halt", "a partition stands still", |seen, _| {
        seen.halts.push(standstill(seen)?);
        Some(())
    }),
    ("halt", "a partition stood still for a while", |seen, _| {
        let halt = standstill(seen)?;
        seen.inside.as_mut()?.seen.push(halt);
        Some(())
    }),
    ("must-stand", "a partition that had to stand still goes on", |seen, _| {
        seen.must_halt.insert((0, 0));
        seen.halts.is_empty().then_some(())
    }),
    ("ended", "an instance ended", |seen, _| {
        seen.inside.as_mut()?.ended.push("instance 0: for no reason".into());
        Some(())
    }),
    ("ledger", "a line is missing", |seen, _| seen.inside.as_mut()?.ledger.pop_first().map(drop)),
    ("ledger", "a line too many", |seen, _| {
        let ledger = &mut seen.inside.as_mut()?.ledger;
        let ((place, _), line) = ledger.first_key_value()?;
        let more = ((place.clone(), Offset(4_711)), line.clone());
        ledger.extend([more]);
        Some(())
    }),
    ("ledger", "a dead letter has another code", |seen, _| {
        let line = seen.inside.as_mut()?.ledger.values_mut().find(|(outcome, _)| outcome == "dead-letter")?;
        line.1 = Some("other".into());
        Some(())
    }),
    ("outbox", "a message was never told", |seen, _| {
        let outbox = &mut seen.inside.as_mut()?.outbox;
        let (source, destination, id) = outbox.first()?.clone();
        outbox.push((source, destination, format!("{id}/1")));
        seen.halts.is_empty().then_some(())
    }),
    ("open-transaction", "a transaction is open", |seen, _| {
        seen.open.push("a transaction is open".into());
        Some(())
    }),
];

const CLOCK: &[u8] = b"\0tidegate\0clock";

fn standstill(seen: &Observed) -> Option<Standstill> {
    let source = seen.progress.keys().next()?.clone();
    Some(Standstill { source, reason: "store-unwritable".into(), detail: String::new() })
}

/// Two places whose contents are as asked for.
fn pair<T>(all: &[T], is_like: impl Fn(&T, &T) -> bool) -> Option<(usize, usize)> {
    let pairs = (0..all.len()).flat_map(|one| (one + 1..all.len()).map(move |other| (one, other)));
    pairs.into_iter().find(|(one, other)| is_like(&all[*one], &all[*other]))
}

/// Two messages change places; offsets stay in order.
fn exchange(messages: &mut [Message], one: usize, other: usize) {
    messages.swap(one, other);
    let offset = messages[one].offset;
    messages[one].offset = messages[other].offset;
    messages[other].offset = offset;
}

fn find(seen: &Observed, is_meant: &dyn Fn(&TopicPartition, &Message) -> bool) -> Option<(TopicPartition, usize)> {
    seen.log.iter().find_map(|(place, messages)| {
        let at = messages.iter().position(|message| is_meant(place, message))?;
        Some((place.clone(), at))
    })
}

fn change(
    seen: &mut Observed,
    is_meant: &dyn Fn(&TopicPartition, &Message) -> bool,
    change: impl FnOnce(&mut Message) -> Option<()>,
) -> Option<()> {
    let (place, at) = find(seen, is_meant)?;
    change(seen.log.get_mut(&place)?.get_mut(at)?)
}

fn drop_one(seen: &mut Observed, is_meant: &dyn Fn(&TopicPartition, &Message) -> bool) -> Option<()> {
    let (place, at) = find(seen, is_meant)?;
    seen.log.get_mut(&place)?.remove(at);
    Some(())
}

fn twice(seen: &mut Observed, is_meant: &dyn Fn(&TopicPartition, &Message) -> bool) -> Option<()> {
    let (place, at) = find(seen, is_meant)?;
    let messages = seen.log.get_mut(&place)?;
    messages.push(messages[at].clone());
    Some(())
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a [u8]> {
    message.headers.iter().find(|header| header.name == name)?.value.as_deref()
}

fn set(message: &mut Message, name: &str, value: &[u8]) -> Option<()> {
    message.headers.iter_mut().find(|header| header.name == name)?.value = Some(value.to_vec());
    Some(())
}

fn unset(message: &mut Message, name: &str) -> Option<()> {
    let before = message.headers.len();
    message.headers.retain(|header| header.name != name);
    (message.headers.len() < before).then_some(())
}

fn another_key(message: &mut Message) -> Option<()> {
    message.key = Some(b"nobody's".to_vec());
    Some(())
}

fn another_value(message: &mut Message) -> Option<()> {
    message.value.as_mut()?.push(b' ');
    Some(())
}

/// A message that no step reads: a change there changes nothing else.
fn is_at_the_end(place: &TopicPartition) -> bool {
    place.topic.as_str() == "out" || place.topic.as_str().ends_with("-dlt")
}

fn is_dead_letter(place: &TopicPartition, message: &Message) -> bool {
    is_at_the_end(place) && header(message, "kafka_dlt-original-topic").is_some()
}

/// A notice that its topic refuses becomes a dead letter with all of its headers.
fn is_notice(place: &TopicPartition, message: &Message) -> bool {
    let is_any = is_at_the_end(place) && header(message, "ce_id").is_some() && header(message, "tg_id").is_some();
    is_any && !is_dead_letter(place, message)
}

fn is_sent_on(place: &TopicPartition, topology: &Topology) -> bool {
    topology.internal_topics().contains(&place.topic)
}

fn change_sent_on(
    seen: &mut Observed,
    topology: &Topology,
    how: impl FnOnce(&mut Message) -> Option<()>,
) -> Option<()> {
    change(seen, &|place, _| is_sent_on(place, topology), how)
}

fn changelogs(topology: &Topology) -> BTreeSet<TopicName> {
    let stores = topology.sub_topologies().iter().flat_map(|sub| &sub.stores);
    stores.filter_map(|store| topology.changelog_topic(store)).collect()
}

fn is_last(messages: &[Message], message: &Message) -> bool {
    !messages.iter().any(|other| other.offset > message.offset && other.key == message.key)
}

/// The only record of a key whose value a store holds.
fn is_last_of_store(seen: &Observed, place: &TopicPartition, message: &Message, topology: &Topology) -> bool {
    let messages = &seen.log[place];
    let is_only = messages.iter().filter(|other| other.key == message.key).count() == 1;
    changelogs(topology).contains(&place.topic)
        && is_only
        && message.value.is_some()
        && message.key.as_deref() != Some(CLOCK)
}

fn is_clock(place: &TopicPartition, message: &Message, topology: &Topology) -> bool {
    changelogs(topology).contains(&place.topic) && message.key.as_deref() == Some(CLOCK)
}

#[test]
fn whatever_is_falsified_in_what_a_clean_run_left_behind_is_said_to_be_of_its_kind() {
    let mut left: Vec<&Lie> = LIES.iter().collect();
    for seed in 0..3_000 {
        let scenario = Scenario::draw(seed);
        let Ok(seen) = scenario.simulated(false).outcome else { panic!("seed {seed} fails") };
        if !seen.struck.is_empty() {
            continue;
        }
        let topology = scenario.pipeline.topology(&Asked::default());
        left.retain(|(kind, what, tell)| {
            let mut falsified = seen.clone();
            if tell(&mut falsified, &topology).is_none() {
                return true;
            }
            let said: BTreeSet<&str> = scenario.judge(&falsified).into_iter().map(|finding| finding.kind).collect();
            assert!(said.contains(kind), "seed {seed}: {what}: {said:?}, not {kind}");
            false
        });
        if left.is_empty() {
            break;
        }
    }
    assert!(left.is_empty(), "no run has what it takes: {:?}", left.iter().map(|lie| lie.1).collect::<Vec<_>>());
    let told: BTreeSet<&str> = LIES.iter().map(|lie| lie.0).collect();
    assert_eq!(told, KINDS.iter().copied().collect(), "each kind is told, and no other");
}
