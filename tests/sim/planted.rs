//! The simulator put to the test: of bugs that are planted each has to be found within the runs of `cargo test`, and by the
//! check that one would expect.

use crate::base::planted::Bug;

use super::world::Check;
use super::{Game, REPLICATION, number_from, report, run_many};

/// Each bug, and what may notice it first.
const BUGS: &[(Bug, &[Check])] = &[
    (Bug::BacklogOffByOne, &[Check::Bytes, Check::State]),
    (Bug::ReplIdNotCompared, &[Check::Bytes, Check::State]),
    (Bug::ForkNotCompared, &[Check::Bytes, Check::State]),
    (Bug::RenameBeforeSync, &[Check::Starts]),
    (Bug::SentCountsAsAcked, &[Check::Wait]),
    (Bug::AckCountedTwice, &[Check::Wait]),
    (Bug::UnsyncedCountsAsSynced, &[Check::WaitAof]),
    (Bug::RestoredTooFar, &[Check::Bytes, Check::State]),
    (Bug::IdKeptOnPromotion, &[Check::Bytes]),
    (Bug::HalfMultiCounts, &[Check::State]),
    (Bug::GetackNotCounted, &[Check::Bytes]),
    (Bug::StreamLostDuringFullSync, &[Check::Bytes]),
    (Bug::OldPlaceKept, &[Check::Bytes, Check::State]),
    (
        Bug::OldBacklogKept,
        &[Check::Bytes, Check::State, Check::Panic],
    ),
    (Bug::SyncCountsTooEarly, &[Check::WaitAof]),
];

#[test]
fn planted_bugs_are_found() {
    find(REPLICATION, BUGS);
}

/// Each of these bugs is found in a game within the runs of `cargo test`, by one of its checks.
pub fn find(game: Game, bugs: &[(Bug, &[Check])]) {
    let mut missed = Vec::new();
    let only = std::env::var("REDSTART_SIM_BUG").ok();
    for (bug, expected) in bugs {
        if only
            .as_ref()
            .is_some_and(|only| *only != format!("{bug:?}"))
        {
            continue;
        }
        let seeds = number_from("REDSTART_SIM_SEEDS").unwrap_or(game.seeds);
        let runs = run_many(game, 0, seeds, Some(*bug), |run| run.failure.is_some());
        let found = runs.iter().find(|run| run.failure.is_some());
        let Some((run, failure)) = found.and_then(|run| Some((run, run.failure.as_ref()?))) else {
            missed.push(format!("{bug:?} is not found"));
            continue;
        };
        println!(
            "{bug:?}: {:?} in seed {}, {} runs",
            failure.check,
            run.seed,
            runs.len()
        );
        if number_from("REDSTART_SIM_ALOUD").is_some() {
            println!("{}", report(game, run));
        }
        if !expected.contains(&failure.check) {
            missed.push(format!(
                "{bug:?} is found by {:?}: {}",
                failure.check, failure.what
            ));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
