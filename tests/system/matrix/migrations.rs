//! A migration that is killed behind each of its statements (K27): the next one finishes it, and nothing is left half-way.

use crate::rig::{Proof, World, sql};
use sqlx::Row as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};

const CELL: &str = "K27";
/// Migrations have more statements than that.
const KILLS_MIN: u32 = 10;
/// Databases at a time: each waits for its disk.
const LANES: usize = 3;

/// Every column and every index of ours, in words.
fn shape(url: &str) -> Vec<String> {
    let text = "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
                  FROM information_schema.columns WHERE table_schema = 'tidegate'
                UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'tidegate' ORDER BY 1";
    sql(url, text).iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()
}

fn migrate(world: &World, url: &str, wish: &str) -> ExitStatus {
    let mut command = world.command("setpriv", &["--pdeathsig", "KILL"], &["migrate"]);
    command.env("FAILPOINT", wish).env("TIDEGATE_DATABASE__URL", url);
    command.output().unwrap().status
}

#[test]
fn a_migration_that_is_killed_behind_each_statement_is_finished_by_the_next() {
    let mut proof = Proof::new("kill", 0);
    for cell in proof.plan(&[CELL]) {
        if !proof.begin(&cell) {
            break;
        }
        let Some(world) = World::bare("migrations") else { return };
        let of = |name: &str| {
            world.sql(&format!("CREATE DATABASE {name}"));
            format!("{}/{name}", world.postgres.url.rsplit_once('/').unwrap().0)
        };
        let whole = of("whole");
        assert!(migrate(&world, &whole, "").success());
        let next = AtomicU32::new(1);
        // Every statement until there are no more; the number of those that were killed behind.
        let kill_on = || {
            for kills in 0.. {
                let statement = next.fetch_add(1, Ordering::Relaxed);
                let killed = of(&format!("killed_{statement}"));
                let status = migrate(&world, &killed, &format!("K27=kill@{statement}"));
                if status.success() {
                    return kills;
                }
                assert_eq!(status.signal(), Some(9), "{status} at statement {statement}");
                assert!(migrate(&world, &killed, "").success(), "after a kill behind statement {statement}");
                assert_eq!(shape(&killed), shape(&whole), "after a kill behind statement {statement}");
            }
            unreachable!()
        };
        let kills: u32 = std::thread::scope(|scope| {
            let lanes = [(); LANES].map(|()| scope.spawn(kill_on));
            lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
        });
        world.note(&format!("{kills} kills"));
        assert!(kills >= KILLS_MIN, "{kills} kills");
        proof.end(&[("kills", kills.into())]);
    }
    proof.clean();
}
