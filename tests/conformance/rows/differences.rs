//! The struct and the table are compared at start.

use super::*;

pub fn differences_come_in_one_message(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let mut wanted = scene.spec();
    wanted.columns = vec![
        ColumnSpec { name: "score".into(), accepts: vec![ColumnType::Bool], is_nullable: false },
        ColumnSpec { name: "note".into(), accepts: vec![ColumnType::Text], is_nullable: false },
        ColumnSpec { name: "absent".into(), accepts: vec![ColumnType::I64], is_nullable: true },
    ];
    let fault = bench.rows(&scene.pipeline).bind(&[wanted]).unwrap_err();
    let message = fault.to_string();
    assert!(matches!(fault, Fault::Fatal(_)), "{message}");
    for word in ["column score: is double precision", "column note: may be null", "column absent: missing"] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

pub fn a_missing_table_is_a_difference(bench: &dyn RowsBench) {
    let scene = Scene::new(bench);
    let nothing = Table::new(&unique("nothing").replace('-', "_"));
    let fault = bench.rows(&scene.pipeline).bind(&[scene.spec(), spec(&nothing, &SCORE)]).unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    assert!(fault.to_string().contains("does not exist"), "{fault}");
}
