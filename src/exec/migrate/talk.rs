//! What MIGRATE says to its target, and what the answers mean.

use bytes::Bytes;

use crate::cmd::fault::Fault;
use crate::exec::io::Stage;
use crate::exec::link::Target;
use crate::object::Entry;
use crate::resp::reply::Reply;

/// The database of a link on which none was selected. (MIGRATE may be asked for it too: then none is.)
pub const NO_DB: i64 = -1;
/// Bytes of the target's words that are passed on.
const ERROR_MAX: usize = 1022;

/// What MIGRATE was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub host: Vec<u8>,
    pub port: Vec<u8>,
    /// The database that the keys go to.
    pub db: i64,
    /// How long each step may take.
    pub timeout_ms: u64,
    /// The keys stay here too.
    pub copy: bool,
    pub replace: bool,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
}

impl Order {
    /// Where it goes; `tls` if that is what nodes of a cluster speak.
    pub fn target(&self, tls: bool) -> Target {
        Target {
            host: String::from_utf8_lossy(&self.host).into_owned(),
            port: port(&self.port),
            source: String::new(),
            tls,
        }
    }

    /// Writes the whole request: what is needed of AUTH and SELECT, and a RESTORE for each key whose time is not over.
    /// `selected` is the database that the link has come to.
    pub fn write(
        &self,
        cargo: &[(Entry, Bytes)],
        selected: i64,
        in_cluster: bool,
        now_ms: u64,
        to: &mut Reply,
    ) -> Talk {
        if let Some(password) = &self.password {
            to.array(2 + usize::from(self.user.is_some()));
            to.bulk(b"AUTH");
            if let Some(user) = &self.user {
                to.bulk(user);
            }
            to.bulk(password);
        }
        let select = selected != self.db;
        if select {
            to.array(2);
            to.bulk(b"SELECT");
            to.bulk_int(self.db);
        }
        let mut talk = Talk {
            greetings: usize::from(self.password.is_some()) + usize::from(select),
            ..Talk::default()
        };
        for (at, (entry, payload)) in cargo.iter().enumerate() {
            let ttl_ms = match entry.expiry_ms() {
                Some(over_ms) if over_ms < now_ms => continue,
                Some(over_ms) => (over_ms - now_ms).max(1),
                None => 0,
            };
            to.array(4 + usize::from(self.replace));
            to.bulk(match in_cluster {
                true => b"RESTORE-ASKING",
                false => b"RESTORE",
            });
            to.bulk(entry.key());
            to.bulk_int(ttl_ms as i64);
            to.bulk_shared(payload.clone());
            if self.replace {
                to.bulk(b"REPLACE");
            }
            talk.sent.push(at);
        }
        talk
    }
}

/// The port that a text names, as C's `atoi` and the resolver read it.
fn port(text: &[u8]) -> u16 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    let number = digits.fold(0u16, |n, digit| {
        n.wrapping_mul(10).wrapping_add(u16::from(digit - b'0'))
    });
    if negative {
        number.wrapping_neg()
    } else {
        number
    }
}

/// A line that is no answer to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer;

/// The answers so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// Answers that come before those to the keys: to AUTH and SELECT.
    greetings: usize,
    /// Which of the keys were sent, in order.
    sent: Vec<usize>,
    answers: usize,
    /// What the target has against AUTH or SELECT: then no key has come to where it should.
    refused: Option<Vec<u8>>,
    /// The first error.
    error: Option<Vec<u8>>,
    /// The keys that it has taken.
    taken: Vec<usize>,
}

impl Talk {
    /// How many lines are to come in all.
    pub fn lines(&self) -> usize {
        self.greetings + self.sent.len()
    }

    /// True if all have come.
    pub fn is_over(&self) -> bool {
        self.answers == self.lines()
    }

    /// True if what became of some key is known.
    pub fn has_begun(&self) -> bool {
        self.answers > self.greetings
    }

    /// The keys that the target has taken, by their places.
    pub fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// Hears a line, without its end.
    pub fn hear(&mut self, line: &[u8]) -> Result<(), NoAnswer> {
        let at = self.answers;
        if at >= self.lines() {
            return Err(NoAnswer);
        }
        let error = match line {
            [b'+', ..] => None,
            [b'-', text @ ..] => Some(text[..text.len().min(ERROR_MAX)].to_vec()),
            _ => return Err(NoAnswer),
        };
        self.answers += 1;
        match at.checked_sub(self.greetings) {
            None => self.refused = self.refused.take().or(error),
            Some(nth) => match self.refused.clone().or(error) {
                Some(text) => {
                    self.error.get_or_insert(text);
                }
                None => self.taken.push(self.sent[nth]),
            },
        }
        Ok(())
    }

    /// What the caller is told, with where it broke off if it did.
    pub fn verdict(&self, broken: Option<Stage>) -> Result<(), Fault> {
        if let Some(error) = &self.error {
            let text = [b"ERR Target instance replied with error: ", &error[..]].concat();
            return Err(Fault::text(text));
        }
        match broken {
            None => Ok(()),
            Some(stage) => Err(broken_off(stage)),
        }
    }
}

/// The error for a talk that broke off, or never began.
pub fn broken_off(stage: Stage) -> Fault {
    Fault::new(match stage {
        Stage::Connecting => "IOERR error or timeout connecting to the client",
        Stage::Writing => "IOERR error or timeout writing to target instance",
        Stage::Reading => "IOERR error or timeout reading to target instance",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Value;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn cargo(key: &[u8], expiry_ms: Option<u64>) -> (Entry, Bytes) {
        let entry = Entry::new(key, Value::Int(1), expiry_ms, 0);
        (entry, Bytes::from_static(b"payload"))
    }

    fn talk_of(order: &Order, cargo: &[(Entry, Bytes)], selected: i64) -> (Talk, String) {
        let mut request = Reply::new();
        let talk = order.write(cargo, selected, false, NOW_MS, &mut request);
        let words = String::from_utf8(request.to_vec()).unwrap();
        let words = words.split("\r\n").filter(|w| !w.starts_with(['*', '$']));
        (talk, words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_request_says_what_the_link_does_not_know_yet() {
        let cargo = [
            cargo(b"a", None),
            cargo(b"over", Some(NOW_MS - 1)),
            cargo(b"b", Some(NOW_MS)),
        ];
        let mut order = Order {
            db: 9,
            ..Order::default()
        };
        let (talk, words) = talk_of(&order, &cargo, 9);
        assert_eq!(words, "RESTORE a 0 payload RESTORE b 1 payload ");
        assert_eq!((talk.lines(), talk.sent), (2, vec![0, 2]));
        order.password = Some(b"secret".into());
        order.replace = true;
        let (talk, words) = talk_of(&order, &cargo[..1], NO_DB);
        assert_eq!(words, "AUTH secret SELECT 9 RESTORE a 0 payload REPLACE ");
        assert_eq!(talk.lines(), 3);
        order.user = Some(b"me".into());
        assert!(
            talk_of(&order, &cargo[..1], 9)
                .1
                .starts_with("AUTH me secret RESTORE")
        );
    }

    #[test]
    fn only_what_was_taken_counts() {
        let order = Order::default();
        let three = [cargo(b"a", None), cargo(b"b", None), cargo(b"c", None)];
        let hear = |lines: &[&str]| {
            let mut talk = talk_of(&order, &three, NO_DB).0;
            for line in lines {
                talk.hear(line.as_bytes()).unwrap();
            }
            let told = talk.verdict((!talk.is_over()).then_some(Stage::Reading));
            let told = told.map_err(|f| String::from_utf8_lossy(f.as_bytes()).into_owned());
            (talk.taken().to_vec(), told)
        };
        assert_eq!(hear(&["+OK", "+OK", "+OK", "+OK"]), (vec![0, 1, 2], Ok(())));
        let first = "ERR Target instance replied with error: BUSYKEY taken".to_string();
        let answers = ["+OK", "+OK", "-BUSYKEY taken", "-ERR other"];
        assert_eq!(hear(&answers), (vec![0], Err(first.clone())));
        // Where the target stands is wrong: that it took the keys is not what was wanted.
        let db = "ERR Target instance replied with error: ERR DB index".to_string();
        assert_eq!(
            hear(&["-ERR DB index", "+OK", "+OK", "+OK"]),
            (vec![], Err(db))
        );
        let broken = "IOERR error or timeout reading to target instance".to_string();
        assert_eq!(hear(&["+OK", "+OK"]), (vec![0], Err(broken)));
        assert_eq!(hear(&["+OK", "-BUSYKEY taken"]), (vec![], Err(first)));
        let mut talk = talk_of(&order, &three[..1], NO_DB).0;
        assert_eq!(talk.hear(b"$2"), Err(NoAnswer));
        assert_eq!(talk.hear(b""), Err(NoAnswer));
        talk.hear(b"+OK").unwrap();
        talk.hear(b"+OK").unwrap();
        assert_eq!(talk.hear(b"+OK"), Err(NoAnswer));
    }

    #[test]
    fn a_port_is_read_as_c_reads_it() {
        let texts: [&[u8]; 6] = [b"6379", b" +80x", b"", b"none", b"65537", b"-1"];
        assert_eq!(texts.map(port), [6379, 80, 0, 0, 1, 65535]);
    }
}
