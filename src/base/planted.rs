//! Bugs that can be planted into the code to see that a test finds them.
//!
//! The simulator of whole nodes (`tests/sim`) tells whether replication and the cluster keep their promises. Whether it would
//! also notice if one were broken, only a broken one can show: at each of these places the code asks whether it is to do the
//! wrong thing.
//! Outside of tests the answer is a constant, and there is no such code.

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A replica that goes on where it was is given the last byte before that place once more.
    BacklogOffByOne,
    /// Whoever asks may go on, whatever stream it knows.
    ReplIdNotCompared,
    /// Whoever followed our old master may go on even beyond the place where we left it.
    ForkNotCompared,
    /// The file of a save gets its name before its bytes are on the disk.
    RenameBeforeSync,
    /// What was sent to a replica counts as what it has acknowledged.
    SentCountsAsAcked,
    /// An acknowledgement counts for two replicas.
    AckCountedTwice,
    /// A replica says of its log that all is on disk which it has run.
    UnsyncedCountsAsSynced,
    /// A replica that starts takes itself for further on than its file is.
    RestoredTooFar,
    /// A promoted replica goes on under the ID of its old master.
    IdKeptOnPromotion,
    /// Commands of a transaction count as applied one by one.
    HalfMultiCounts,
    /// The master's question how far a replica is does not count as part of the stream.
    GetackNotCounted,
    /// What changed while a snapshot was on its way is not sent behind it.
    StreamLostDuringFullSync,
    /// A replica that was given all data anew still knows its old place.
    OldPlaceKept,
    /// A replica that was given all data anew keeps the end of the old stream for those who follow it.
    OldBacklogKept,
    /// What a sync of the log will make durable counts as durable when it begins.
    SyncCountsTooEarly,
    /// A vote is given before it is on the disk.
    VoteNotSaved,
    /// A file of the cluster's state that need not be sure takes the place of one that is.
    NodesFileUnsynced,
    /// Two masters with the same epoch keep it.
    SameEpochKept,
    /// A replica is elected with a vote less than most masters have.
    OneVoteLess,
    /// A replica stands whose data are too old.
    OldDataStands,
    /// A replica stands while it loads.
    StandsWithoutData,
    /// A failover by hand does not wait for the end of the master's stream.
    ManualTooEarly,
    /// A master that reaches only a few others serves on.
    MinorityServes,
    /// A node of a cluster follows its master before it has loaded its own data.
    FollowsBeforeLoaded,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// True where this bug is planted, on this thread.
#[cfg(test)]
pub fn on(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// True where this bug is planted: nowhere but in tests.
#[cfg(not(test))]
#[inline(always)]
pub const fn on(_: Bug) -> bool {
    false
}

/// Plants a bug on this thread, or none.
#[cfg(test)]
pub fn plant(bug: Option<Bug>) -> Option<Bug> {
    PLANTED.replace(bug)
}
