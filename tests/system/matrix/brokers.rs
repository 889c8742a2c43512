//! Brokers by the role they have for us: each killed, ended, frozen past its session. The other two carry on.

use super::arena::{Arena, Facts, Stage, run, seconds};
use super::cluster::{Role, wait_in_sync};
use crate::rig::{Proof, Random};
use std::time::{Duration, Instant};

const ROLES: [Role; 4] = [Role::Leader, Role::Controller, Role::TransactionCoordinator, Role::GroupCoordinator];
const ACTIONS: [&str; 3] = ["SIGKILL", "SIGTERM", "SIGSTOP"];
/// The brokers' session is 3 s (tests/servers/kafka.sh).
const FROZEN: Duration = Duration::from_secs(8);

#[derive(Clone)]
struct Cell {
    role: Role,
    action: &'static str,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.action, self.role)
    }
}

fn act(arena: &mut Arena, cell: &Cell) -> Facts {
    wait_in_sync(&arena.world);
    let broker = cell.role.broker(&arena.world, "scoring", "readings");
    arena.standing.forget();
    let began = Instant::now();
    match cell.action {
        "SIGSTOP" => {
            arena.world.kafka.act("pause", &broker);
            std::thread::sleep(FROZEN);
            arena.world.kafka.act("resume", &broker);
        }
        action => {
            arena.world.kafka.act(if action == "SIGKILL" { "kill" } else { "end" }, &broker);
            arena.standing.wait_all_move(); // without it
            arena.world.kafka.restart(&broker);
        }
    }
    let over = began.elapsed();
    arena.standing.wait_all_move();
    let (healed, stood) = (began.elapsed(), arena.standing.longest());
    arena.wait_whole();
    vec![
        ("broker", broker.into()),
        ("back_s", seconds(over)),
        ("healed_s", seconds(healed)),
        ("stood_s", seconds(stood)),
    ]
}

#[test]
fn a_broker_in_each_of_its_roles_that_goes_or_freezes_is_survived() {
    let plan = |proof: &Proof, random: &mut Random| {
        let cells: Vec<Cell> = ROLES.into_iter().flat_map(|role| ACTIONS.map(|action| Cell { role, action })).collect();
        // Each operation once: a broker is half a minute away.
        let mut any = || ROLES[usize::try_from(random.below(ROLES.len() as u64)).unwrap()];
        proof.plan_or_sample(&cells, &ACTIONS.map(|action| Cell { role: any(), action }))
    };
    run("brokers-by-role", "broker", &Stage::default(), plan, act);
}
