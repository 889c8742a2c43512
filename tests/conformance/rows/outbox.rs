//! Outbox rows in and out.

use super::*;

pub fn outbox_comes_back_in_order_and_never_splits_an_offset(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    fill(&scene, &mut *rows, 0, &[(30, 1), (4, 3), (5, 2), (20, 12)]);
    let mut read = |from: i64, to: i64, rows_max: usize| -> Vec<(i64, i32)> {
        let found = rows.outbox(&scene.place(0), NextOffset(from), NextOffset(to), rows_max).unwrap();
        found.iter().map(|row| (row.source_offset.0, row.seq)).collect()
    };
    let fours = [(4, 0), (4, 1), (4, 2)];
    let fives = [(5, 0), (5, 1)];
    let twenties: Vec<_> = (0..12).map(|seq| (20, seq)).collect();
    assert_eq!(read(0, 100, 100), [&fours[..], &fives, &twenties, &[(30, 0)]].concat());
    assert_eq!(read(0, 100, 3), fours);
    assert_eq!(read(0, 100, 4), fours, "five's rows would be split");
    assert_eq!(read(0, 100, 5), [&fours[..], &fives].concat());
    assert_eq!(read(6, 100, 5), twenties, "one offset's rows come whole, however many");
    assert_eq!(read(4, 5, 100), fours, "half-open");
    assert_eq!(read(5, 20, 100), fives);
    assert_eq!(read(31, 100, 100), []);
    assert_eq!(read(7, 7, 100), []);
}

pub fn outbox_is_seen_by_its_own_pipeline_and_partition(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    assert!(rows.create(&scene.claim(1, 1), NextOffset(0)).unwrap());
    fill(&scene, &mut *rows, 0, &[(1, 1)]);
    fill(&scene, &mut *rows, 1, &[(2, 1)]);
    assert_eq!(scene.outbox_of(&mut *rows, 0).len(), 1);
    assert_eq!(scene.outbox_of(&mut *rows, 1)[0].source_offset, Offset(2));
    let mut elsewhere = bench.rows(&unique("pipeline"));
    assert_eq!(scene.outbox_of(&mut *elsewhere, 0), []);
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push((row.source, row.source_offset.0))).unwrap();
    assert_eq!(seen, [(scene.place(0), 1), (scene.place(1), 2)]);
}

pub fn outbox_rows_round_trip(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let headers = vec![
        Header::new("a", "1"),
        Header::new("a", *b"\x00\xff"),
        Header { name: "none".into(), value: None },
        Header::new("", ""),
    ];
    let mut outbox = vec![
        OutboxRow { headers, ..scene.outbox_row(0, 0, 0) },
        OutboxRow { key: None, value: None, ..scene.outbox_row(0, 0, 1) },
        OutboxRow { key: Some(Vec::new()), value: Some(Vec::new()), ..scene.outbox_row(0, 1, 0) },
    ];
    outbox[2].value = Some((0..=255).collect());
    outbox[1].timestamp = Some(Timestamp(1_700_000_000_123));
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.append(&outbox).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0), outbox);
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push(row)).unwrap();
    assert_eq!(seen, outbox);
}

/// Its offsets are those of a log that is gone: kept for the audit, never published again.
pub fn outbox_rows_of_another_incarnation_are_kept_and_not_announced(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    let other = OutboxRow { incarnation: 1, ..scene.outbox_row(0, 0, 0) };
    let ours = scene.outbox_row(0, 1, 0);
    rows.begin().unwrap();
    rows.advance(&[scene.moved(1, 0, 2)]).unwrap();
    rows.append(&[other.clone(), ours.clone()]).unwrap();
    rows.commit().unwrap();
    assert_eq!(scene.outbox_of(&mut *rows, 0), std::slice::from_ref(&ours));
    let mut seen = Vec::new();
    bench.history(&scene.pipeline).each_outbox_row(&mut |row| seen.push(row)).unwrap();
    assert_eq!(seen, [other, ours]);
}

/// A message that stands elsewhere already is left alone: an owner that is not sure whether it was committed asks again.
pub fn outbox_rows_are_redirected_once(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut rows = scene.owner();
    fill(&scene, &mut *rows, 0, &[(0, 2), (1, 1)]);
    let elsewhere = TopicName::parse("elsewhere").unwrap();
    let headers = vec![Header::new("why", "refused")];
    let before = scene.outbox_of(&mut *rows, 0);
    let timestamp = Some(Timestamp(5));
    let redirected =
        OutboxRow { destination: elsewhere, key: None, value: None, headers, timestamp, ..before[1].clone() };
    let unknown = OutboxRow { seq: 7, ..redirected.clone() };
    let of_another_life = OutboxRow { incarnation: 1, ..redirected.clone() };
    let mut redirect = |asked: &[OutboxRow], is_committed: bool| {
        rows.begin().unwrap();
        assert_eq!(rows.advance(&[scene.moved(1, 100, 100)]).unwrap(), [true]);
        let changed = rows.redirect(asked).unwrap();
        if is_committed {
            assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
        } else {
            rows.rollback();
        }
        (changed, scene.outbox_of(&mut *rows, 0))
    };
    assert_eq!(redirect(std::slice::from_ref(&redirected), false), (1, before.clone()));
    assert_eq!(redirect(&[unknown, of_another_life], true), (0, before.clone()));
    let after = vec![before[0].clone(), redirected.clone(), before[2].clone()];
    assert_eq!(redirect(std::slice::from_ref(&redirected), true), (1, after.clone()));
    assert_eq!(redirect(&[redirected], true), (0, after));
}
