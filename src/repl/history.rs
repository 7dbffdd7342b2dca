//! Which stream this server's data comes from, how far it has come, and who may go on with it.
//!
//! ```text
//! id:  a stream of our own, or the one of our master, whose bytes are ours too, one by one
//! id2: the stream that ours came out of when we became a master, and up to where they are the same
//! ```
//! A replica that was promoted takes a new ID, because its stream now differs from its old master's; the others
//! that followed that master may still go on with it from where both are one: that is what the second ID is for. Without a backlog
//! nobody counts what happens, so that a stream whose backlog was dropped must not be known by its ID any more.

use crate::base::planted::{self, Bug};
use crate::base::rng::Rng;
use crate::repl::backlog::Backlog;

/// Length of an ID.
pub const ID_LEN: usize = 40;
/// No stream ever comes so far: an offset that is said to be beyond is wrong, and must not be counted on.
pub const OFFSET_MAX: i64 = i64::MAX / 2;

/// Why a replica cannot go on with the stream where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It knows another stream.
    OtherStream,
    /// It went on with the old stream after ours had come out of it.
    BeyondFork,
    /// The backlog has not what it lacks, or there is none.
    NotHeld,
}

/// What happened to a history, for a test that follows it.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes were appended to the stream of this ID, the first of them having this offset.
    Appended {
        id: String,
        first: i64,
        bytes: Vec<u8>,
    },
    /// All data is now that of this stream, up to this offset.
    Adopted { id: String, offset: i64 },
    /// It goes on by itself.
    Parted,
}

/// See the head of the file.
pub struct History {
    id: String,
    id2: String,
    /// The first offset at which the second ID's stream is no longer ours; -1 if there is no second ID.
    second_offset: i64,
    /// Offset of the last byte of the stream.
    offset: i64,
    backlog: Option<Backlog>,
    /// `repl-backlog-size`
    backlog_size: usize,
    /// Noted if a test wants it.
    #[cfg(test)]
    pub steps: Option<Vec<Step>>,
}

impl History {
    /// A stream of which nothing was said yet.
    pub fn new(rng: &mut Rng, backlog_size: usize) -> History {
        History {
            id: rng.hex(ID_LEN),
            id2: no_id(),
            second_offset: -1,
            offset: 0,
            backlog: None,
            backlog_size,
            #[cfg(test)]
            steps: None,
        }
    }

    #[cfg(test)]
    fn note(&mut self, step: impl FnOnce(&History) -> Step) {
        if self.steps.is_some() {
            let step = step(self);
            self.steps.get_or_insert_default().push(step);
        }
    }

    /// The ID of the stream.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ID of the stream that it came out of; zeros if there is none.
    pub fn id2(&self) -> &str {
        &self.id2
    }

    /// The first offset at which the second ID's stream is no longer ours, or -1.
    pub fn second_offset(&self) -> i64 {
        self.second_offset
    }

    /// Offset of the last byte of the stream (`master_repl_offset`).
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The end of the stream, if it is kept.
    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()
    }

    /// The same, for its readers.
    pub fn backlog_mut(&mut self) -> Option<&mut Backlog> {
        self.backlog.as_mut()
    }

    /// Begins to keep the end of the stream, from the next byte on.
    pub fn keep_backlog(&mut self) {
        if self.backlog.is_none() {
            self.backlog = Some(Backlog::new(self.backlog_size, self.offset + 1));
        }
    }

    /// Keeps it no longer. It has no readers.
    pub fn drop_backlog(&mut self) -> Option<Backlog> {
        self.backlog.take()
    }

    /// `repl-backlog-size` has changed.
    pub fn resize_backlog(&mut self, size: usize) {
        self.backlog_size = size;
        if let Some(backlog) = &mut self.backlog {
            backlog.resize(size);
        }
    }

    /// Appends to the stream, if it is kept. True if readers that are behind should be looked at.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if self.backlog.is_none() {
            return false;
        }
        #[cfg(test)]
        self.note(|history| Step::Appended {
            id: history.id.clone(),
            first: history.offset + 1,
            bytes: bytes.into(),
        });
        self.offset += bytes.len() as i64;
        self.backlog.as_mut().is_some_and(|b| b.append(bytes))
    }

    /// Something changed that nobody keeps. It is counted all the same: by the offset one tells what is on disk.
    pub fn count_unkept(&mut self) {
        self.offset += 1;
    }

    /// A new ID, as if the data had parted here from what everybody else has. The second ID stays.
    pub fn change_id(&mut self, rng: &mut Rng) {
        self.id = rng.hex(ID_LEN);
    }

    /// No second ID any more.
    pub fn forget_second(&mut self) {
        self.id2 = no_id();
        self.second_offset = -1;
    }

    /// We go on by ourselves (a promotion): a new ID, the one so far becomes the second.
    pub fn part(&mut self, rng: &mut Rng) {
        self.id2 = self.id.clone();
        if !planted::on(Bug::IdKeptOnPromotion) {
            self.id = rng.hex(ID_LEN);
        }
        self.second_offset = self.offset + 1;
        log::info!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            self.id2,
            self.second_offset,
            self.id
        );
        #[cfg(test)]
        self.note(|_| Step::Parted);
    }

    /// We have all data of this stream up to this offset, and nothing of before (a full sync, the start).
    pub fn adopt(&mut self, id: &str, offset: i64) {
        self.id = id.to_string();
        self.offset = offset;
        self.forget_second();
        if self.backlog.is_some() && !planted::on(Bug::OldBacklogKept) {
            self.backlog = None;
            self.keep_backlog();
        }
        #[cfg(test)]
        self.note(|history| Step::Adopted {
            id: history.id.clone(),
            offset,
        });
    }

    /// The stream that we follow has a new ID, the one so far becomes the second (a partial sync with a promoted master).
    pub fn rename(&mut self, id: &str) {
        self.id2 = std::mem::replace(&mut self.id, id.to_string());
        self.second_offset = self.offset + 1;
    }

    /// The place where a server that starts finds itself by its file: it was a master of this stream. Its old ID becomes the second, so that
    /// replicas may come back, up to what the file has.
    pub fn resume_as_master(&mut self, id: &str, offset: i64) {
        self.id2 = id.to_string();
        self.second_offset = offset + 1;
        self.offset = offset;
        self.backlog = None;
        self.keep_backlog();
    }

    /// May a replica go on with the stream of this ID from this offset?
    pub fn can_continue(&self, id: &[u8], from: i64) -> Result<(), Refusal> {
        let first = id.eq_ignore_ascii_case(self.id.as_bytes());
        let second = id.eq_ignore_ascii_case(self.id2.as_bytes());
        let compared = !planted::on(Bug::ReplIdNotCompared);
        if !first && !second && compared {
            return Err(Refusal::OtherStream);
        }
        let compared = compared && !planted::on(Bug::ForkNotCompared);
        if !first && from > self.second_offset && compared {
            return Err(Refusal::BeyondFork);
        }
        match &self.backlog {
            Some(backlog) if backlog.holds(from) => Ok(()),
            _ => Err(Refusal::NotHeld),
        }
    }
}

fn no_id() -> String {
    "0".repeat(ID_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_go_on() {
        let mut rng = Rng::new(1);
        let mut history = History::new(&mut rng, 1 << 20);
        let old = history.id().to_string();
        assert_eq!(
            history.can_continue(old.as_bytes(), 1),
            Err(Refusal::NotHeld),
            "no backlog"
        );
        history.append(b"nobody keeps this");
        assert_eq!(history.offset(), 0);
        history.keep_backlog();
        history.append(b"0123456789");
        for (from, may) in [
            (0, Err(Refusal::NotHeld)),
            (1, Ok(())),
            (11, Ok(())),
            (12, Err(Refusal::NotHeld)),
        ] {
            assert_eq!(history.can_continue(old.as_bytes(), from), may, "{from}");
        }
        history.part(&mut rng);
        history.append(b"abc");
        assert_eq!((history.id2(), history.second_offset()), (&*old, 11));
        assert_eq!(history.can_continue(old.as_bytes(), 11), Ok(()));
        assert_eq!(
            history.can_continue(old.to_uppercase().as_bytes(), 12),
            Err(Refusal::BeyondFork)
        );
        let new = history.id().to_string();
        assert_eq!(history.can_continue(new.as_bytes(), 14), Ok(()));
        history.forget_second();
        assert_eq!(
            history.can_continue(old.as_bytes(), 11),
            Err(Refusal::OtherStream)
        );
        history.adopt(&old, 500);
        assert_eq!(history.can_continue(old.as_bytes(), 501), Ok(()));
        assert_eq!(
            history.can_continue(old.as_bytes(), 500),
            Err(Refusal::NotHeld)
        );
    }
}
