//! A late copy (F1, KAFKA-17754; docs/protocol.md#the-late-request): a request of one transaction reaches the
//! broker in the midst of its
//! producer's next one.
//!
//! The proxy holds an `EndTxn` or a `TxnOffsetCommit` and cuts the client's connection. The client repeats the request in
//! silence, and the broker sees the repetition first. The first copy is let go on its own connection, still open at the
//! broker, once the same transactional id has messages in another transaction.

use crate::rig::{Action, Feed, Held, Instance, Line, Proof, Proxy, Random, Request, World, say};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, ApiKey, EndTxnRequest, EndTxnResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

const IDS: i64 = 1_000;
const INVALID_PRODUCER_EPOCH: i16 = 47;
/// Tries in which the rule that is switched off may get away with it.
const TRIES_MAX: usize = 10;

/// Which request comes late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Its copy ends the next transaction half-way: the part committed then would be published again after a crash.
    Commit,
    /// Its copy takes away the messages of the next transaction, while that one's offsets are committed.
    Abort,
    /// Its copy takes K back to where the transaction before had brought it.
    Offsets,
}

const FORMS: [Form; 3] = [Form::Abort, Form::Commit, Form::Offsets];

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Commit => "EndTxn(commit)",
            Self::Abort => "EndTxn(abort)",
            Self::Offsets => "TxnOffsetCommit",
        })
    }
}

impl Form {
    fn is_it(self, request: &Request) -> bool {
        match self {
            Self::Commit => request.api == ApiKey::EndTxn && request.body::<EndTxnRequest>().committed,
            Self::Abort => request.api == ApiKey::EndTxn && !request.body::<EndTxnRequest>().committed,
            Self::Offsets => request.api == ApiKey::TxnOffsetCommit,
        }
    }

    /// The next transaction's request in front of which the copy is let go: behind its messages, or its offsets.
    fn before(self) -> ApiKey {
        match self {
            Self::Commit | Self::Abort => ApiKey::AddOffsetsToTxn,
            Self::Offsets => ApiKey::EndTxn,
        }
    }

    fn release(self, held: Held) -> i16 {
        match self {
            Self::Commit | Self::Abort => held.release::<EndTxnResponse>().error_code,
            Self::Offsets => held.release::<TxnOffsetCommitResponse>().topics[0].partitions[0].error_code,
        }
    }
}

fn epoch(request: &Request) -> i16 {
    match request.api {
        ApiKey::EndTxn => request.body::<EndTxnRequest>().producer_epoch,
        ApiKey::TxnOffsetCommit => request.body::<TxnOffsetCommitRequest>().producer_epoch,
        _ => request.body::<AddOffsetsToTxnRequest>().producer_epoch,
    }
}

fn is_of_a_transaction(api: ApiKey) -> bool {
    use ApiKey::{AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, InitProducerId, Produce, TxnOffsetCommit};
    matches!(api, InitProducerId | AddPartitionsToTxn | Produce | AddOffsetsToTxn | TxnOffsetCommit | EndTxn)
}

/// The outcome of a late copy.
struct Late {
    client: String,
    /// The broker's answer to the copy.
    error: i16,
    /// The epochs of the copy and of the transaction that it met.
    epochs: (i16, i16),
}

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, error, epochs: (copy, next) } = self;
        write!(f, "{client}: the copy of epoch {copy} met epoch {next}, the broker answered {error}")
    }
}

/// The stage of the play. An abort needs a transaction that fails first: its offsets bear an outdated generation.
enum Scene {
    ToFail,
    ToHold,
    /// The client repeats the held request; then comes the next transaction with messages.
    Repeating(Held),
    NextHasMessages(Held),
    /// Transactions hang, as in a process that dies now.
    Frozen,
    Over,
}

struct Plot {
    form: Form,
    scene: Scene,
    told: Sender<Late>,
}

impl Plot {
    fn new(form: Form, told: Sender<Late>) -> Self {
        let scene = if form == Form::Abort { Scene::ToFail } else { Scene::ToHold };
        Self { form, scene, told }
    }

    fn action(&mut self, request: Request, line: &Line) -> Action {
        let form = self.form;
        let (scene, action) = match std::mem::replace(&mut self.scene, Scene::Over) {
            Scene::ToFail if request.api == ApiKey::TxnOffsetCommit => {
                let mut offsets: TxnOffsetCommitRequest = request.body();
                offsets.generation_id -= 1;
                (Scene::ToHold, Action::Forward(request.with(&offsets)))
            }
            Scene::ToHold if form.is_it(&request) => (Scene::Repeating(line.hold(request)), Action::Cut),
            Scene::Repeating(held) if request.client == held.request.client && request.api == ApiKey::Produce => {
                (Scene::NextHasMessages(held), Action::Forward(request))
            }
            Scene::NextHasMessages(held) if request.client == held.request.client && request.api == form.before() => {
                self.let_go(held, request)
            }
            Scene::Frozen if is_of_a_transaction(request.api) => (Scene::Frozen, Action::Drop),
            scene => (scene, Action::Forward(request)),
        };
        self.scene = scene;
        action
    }

    fn let_go(&self, held: Held, request: Request) -> (Scene, Action) {
        let (client, epochs) = (request.client.clone(), (epoch(&held.request), epoch(&request)));
        let error = self.form.release(held);
        let _ = self.told.send(Late { client, error, epochs }); // the test may have failed
        match self.form {
            Form::Commit => (Scene::Frozen, Action::Drop),
            Form::Abort => (Scene::Over, Action::Forward(request)),
            Form::Offsets => (Scene::Frozen, Action::Forward(request)),
        }
    }
}

/// One instance with one worker behind a proxy; its sessions and transactions end soon after its death.
struct Stage {
    instance: Instance,
    proxy: Proxy,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new(name: &'static str, guard_off: &str) -> Option<Self> {
        let (mut world, proxy) = World::proxied(name, IDS)?;
        world.guard_off = guard_off.into();
        world.settings.retain(|(name, _)| name != "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS");
        let short = [
            ("TIDEGATE_ENGINE__WORKERS", "1"),
            ("TIDEGATE_KAFKA__SESSION_TIMEOUT_MS", "3000"),
            ("TIDEGATE_KAFKA__TRANSACTION_TIMEOUT_MS", "4000"),
        ];
        world.settings.extend(short.map(|(name, value)| (name.into(), value.into())));
        let instance = world.instance("only");
        world.wait_owners(1);
        Some(Self { instance, proxy, world })
    }

    /// Plays `form` once. If the copy can harm only the transaction of a dead process, the process dies.
    fn play(&mut self, form: Form) -> Late {
        let (tell, told) = channel();
        let mut plot = Plot::new(form, tell);
        self.proxy.rule(move |request, line| plot.action(request, line));
        let late = told
            .recv_timeout(Duration::from_secs(30))
            .unwrap_or_else(|error| panic!("{form:?}: no copy was let go: {error}\n{}", self.instance.log()));
        if form != Form::Abort {
            std::thread::sleep(Duration::from_millis(200)); // requests that the plot let through arrive
            self.instance.kill();
            self.instance = self.world.instance("only");
        }
        self.proxy.open();
        late
    }
}

#[test]
fn a_late_copy_of_a_request_is_refused_and_does_no_harm() {
    let seed = Random::seed("TIDEGATE_LATE_SEED");
    let mut proof = Proof::new("late", seed);
    let forms = proof.plan(&FORMS);
    if forms.is_empty() {
        return;
    }
    let Some(mut stage) = Stage::new("late", "") else { return };
    say(&format!("late: TIDEGATE_LATE_SEED={seed}, {} times", forms.len()));
    let mut feed = Feed::new(&stage.world, IDS, seed);
    feed.during(|| {
        for form in forms {
            if !proof.begin(&form) {
                break;
            }
            stage.world.wait_all_move();
            let late = stage.play(form);
            stage.world.note(&format!("{form}: {late}"));
            assert_eq!(late.error, INVALID_PRODUCER_EPOCH, "{form}: {late}");
            assert!(late.epochs.0 < late.epochs.1, "{form}: {late}");
            proof.end(&[("refused", late.error.into())]);
        }
        stage.world.wait_all_move();
    });
    stage.world.judge(&feed, Duration::from_secs(60));
    proof.clean();
}

/// The harm that `form` has done: messages lost, messages published twice, or, where the position row knows that more was
/// published than K says, partitions halted.
fn harm(stage: &Stage, form: Form) -> (&'static str, i64) {
    let audit = stage.world.findings();
    let count = |kind: &str| audit.0[kind]["count"].as_i64().unwrap();
    let halted = i64::try_from(stage.instance.log().matches("halted: committed offset went back").count()).unwrap();
    match form {
        Form::Abort => ("missing", count("missing")),
        Form::Offsets if halted > 0 => ("partitions halted", halted),
        Form::Commit | Form::Offsets => ("twice", count("twice")),
    }
}

/// Waits for the harm, which does not come where the copy had no effect.
fn wait_harm(stage: &Stage, form: Form) -> (&'static str, i64) {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let harm = harm(stage, form);
        if harm.1 > 0 || Instant::now() >= end {
            return harm;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn without_the_taint_rule_a_late_copy_is_accepted_and_its_harm_is_found() {
    let seed = Random::seed("TIDEGATE_LATE_SEED");
    for form in FORMS {
        let mut proof = Proof::new("guard", seed);
        let guard = if form == Form::Abort { "taint-on-abort" } else { "taint-on-timeout" };
        for cell in proof.plan(&[format!("{guard}, {form}")]) {
            let Some(mut stage) = Stage::new("untainted", guard) else { return };
            say(&format!("untainted, {form}: TIDEGATE_LATE_SEED={seed}"));
            if !proof.begin(&cell) {
                return;
            }
            let mut feed = Feed::new(&stage.world, IDS, seed);
            feed.during(|| {
                let found = (1..=TRIES_MAX).find_map(|number| {
                    stage.world.wait_all_move();
                    let late = stage.play(form);
                    let (kind, count) = wait_harm(&stage, form);
                    stage.world.note(&format!("{form}, try {number}: {late}; {kind}: {count}"));
                    (count > 0).then_some((number, kind, count))
                });
                let (tries, kind, count) =
                    found.unwrap_or_else(|| panic!("{form}: nothing was found in {TRIES_MAX} tries"));
                let by = if kind == "partitions halted" { "a halt" } else { "the audit" };
                let finding = format!("{kind}: {count}");
                proof.end(&[
                    ("guard", guard.into()),
                    ("caught_by", by.into()),
                    ("finding", finding.into()),
                    ("tries", tries.into()),
                ]);
            });
        }
        proof.clean();
    }
}
