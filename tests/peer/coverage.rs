//! How often each option of each row has met data and no error: what has not been tested enough is what the
//! generator is steered towards, and fails the run in the end.

use std::collections::BTreeMap;

use redstart::cmd::spec::Spec;
use redstart::resp::value::Value;

use crate::generate::{Request, options_of};
use crate::words;

/// Times that each option of each row must have met data and no error.
pub const ENOUGH: u64 = 20;

/// A row's name, and one of its options or none for the row itself.
pub type Target = (&'static str, Option<String>);

/// See the head of the file.
pub struct Coverage {
    good: BTreeMap<Target, u64>,
}

impl Coverage {
    /// All options of these rows, none seen yet.
    pub fn of(rows: &[Spec]) -> Coverage {
        let mut good = BTreeMap::new();
        for row in rows {
            good.insert((row.name, None), 0);
            good.extend(
                options_of(row)
                    .into_iter()
                    .map(|o| ((row.name, Some(o)), 0)),
            );
        }
        Coverage { good }
    }

    /// Does not ask for an option that the peer does not have.
    pub fn forget(&mut self, name: &'static str, option: &str) {
        self.good.remove(&(name, Some(option.to_string())));
    }

    /// Counts a request, and those of its options whose work its reply shows.
    pub fn note(&mut self, request: &Request, reply: &Value) {
        let queued = matches!(reply, Value::Status(s) if s == b"QUEUED");
        if request.broken || reply.is_error() || queued {
            return;
        }
        let on_data = worked(request, reply);
        let options = request.options.iter().map(|o| Some(o.as_str()));
        for option in options.chain([None]) {
            if on_data || words::finds_nothing(request.name, option.unwrap_or("")) {
                self.count(request.name, option);
            }
        }
    }

    /// Counts a request that worked.
    pub fn credit(&mut self, request: &Request) {
        let options = request.options.iter().map(|o| Some(o.as_str()));
        options
            .chain([None])
            .for_each(|option| self.count(request.name, option));
    }

    fn count(&mut self, name: &'static str, option: Option<&str>) {
        if let Some(n) = self.good.get_mut(&(name, option.map(str::to_string))) {
            *n += 1;
        }
    }

    /// What has been tested fewer than `n` times, and how often.
    pub fn below(&self, n: u64) -> Vec<(Target, u64)> {
        self.good
            .iter()
            .filter(|(_, seen)| **seen < n)
            .map(|(t, seen)| (t.clone(), *seen))
            .collect()
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.good.len()
    }
}

/// True for a reply that shows that the command met something.
fn worked(request: &Request, reply: &Value) -> bool {
    match reply {
        Value::Int(0) => words::may_answer_zero(request.name),
        Value::Null | Value::NullArray | Value::Int(-2) => false,
        Value::Bulk(b) => !b.is_empty(),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => !items.is_empty(),
        Value::Map(pairs) => !pairs.is_empty(),
        _ => true,
    }
}
