//! One connection to each server, used in step: the same bytes to both, the replies held against each other.

use std::collections::BTreeMap;

use redstart::resp::value::Value;

use crate::compare::Judge;
use crate::generate::Request;
use crate::node::{Conn, Node, both, encode};
use crate::words::{VICTIM_ADDR, VICTIM_ID, VICTIM_LADDR};

/// What is called differently on each server: a connection's ID and addresses.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub id: String,
    pub addr: String,
    pub laddr: String,
}

impl Names {
    fn replace<'a>(&'a self, arg: &'a [u8]) -> &'a [u8] {
        let whole = |mark: &str| arg == mark.as_bytes();
        match arg {
            _ if whole(VICTIM_ID) => self.id.as_bytes(),
            _ if whole(VICTIM_ADDR) => self.addr.as_bytes(),
            _ if whole(VICTIM_LADDR) => self.laddr.as_bytes(),
            _ => arg,
        }
    }
}

/// See the head of the file. In both arrays ours comes first.
pub struct Pair {
    pub conns: [Conn; 2],
    /// Commands queued by MULTI, to judge the elements of EXEC's reply.
    pub queued: Option<Vec<Request>>,
}

/// A difference that was found, and where.
#[derive(Clone, Debug)]
pub struct Difference {
    pub name: String,
    pub text: String,
}

impl Pair {
    /// Connects to both.
    pub fn new(nodes: &[Node; 2]) -> Pair {
        Pair {
            conns: [nodes[0].connect(), nodes[1].connect()],
            queued: None,
        }
    }

    /// What the connections are called; asks for their IDs.
    pub fn names(&mut self) -> [Names; 2] {
        self.conns.each_mut().map(|conn| {
            let Value::Int(id) = conn.call(&["CLIENT", "ID"]) else {
                panic!("CLIENT ID gives a number")
            };
            let (addr, laddr) = conn.addresses();
            Names {
                id: id.to_string(),
                addr,
                laddr,
            }
        })
    }

    /// Sends the same to both, the marks for the victim replaced by its names.
    pub fn send(&mut self, requests: &[Request], victim: &[Names; 2]) {
        for (conn, names) in self.conns.iter_mut().zip(victim) {
            let mut bytes = Vec::new();
            for r in requests {
                let args: Vec<&[u8]> = r.args.iter().map(|a| names.replace(a)).collect();
                encode(&args, &mut bytes);
            }
            conn.send_raw(&bytes);
        }
    }

    /// Sends a command that needs no judging and drops the replies.
    pub fn settle(&mut self, args: &[&str]) {
        for conn in &mut self.conns {
            conn.call(args);
        }
    }

    /// The replies of one request, the peer's; a difference goes to `found`.
    pub fn judge(
        &mut self,
        request: &Request,
        judge: &Judge,
        context: &str,
        found: &mut Findings,
    ) -> Value {
        let replies = self.conns.each_mut().map(|conn| {
            conn.awaited = format!("{context}, {}", request.text());
            conn.try_reply()
        });
        let [Some(ours), Some(theirs)] = replies else {
            found.add(
                request.name,
                format!(
                    "{context}\n  command: {}\n  closed: {replies:?}",
                    request.text()
                ),
            );
            return Value::Null;
        };
        let same = match (&self.queued, &ours, &theirs) {
            (Some(queued), Value::Array(a), Value::Array(b)) if request.name == "exec" => {
                let all = a.iter().zip(b).zip(queued);
                a.len() == b.len() && all.into_iter().all(|((a, b), r)| judge.same(r, a, b))
            }
            _ => judge.same(request, &ours, &theirs),
        };
        if !same {
            let (odd, a, b) = self.odd_one_out(request, &ours, &theirs, judge);
            let within = match odd.name == request.name {
                true => String::new(),
                false => format!(" (queued: {})", odd.text()),
            };
            let (ours, theirs) = judge.explain(&odd, &a, &b);
            let command = request.text();
            let text = format!(
                "{context}\n  command: {command}{within}\n  ours:    {ours}\n  theirs:  {theirs}"
            );
            found.add(odd.name, text);
        }
        self.follow(request, &theirs);
        theirs
    }

    /// What is to be shown of a difference: of EXEC's replies, the first that differs and its command.
    fn odd_one_out(
        &self,
        request: &Request,
        ours: &Value,
        theirs: &Value,
        judge: &Judge,
    ) -> (Request, Value, Value) {
        if let (Some(queued), Value::Array(a), Value::Array(b)) = (&self.queued, ours, theirs)
            && request.name == "exec"
            && let Some(((a, b), r)) =
                (a.iter().zip(b).zip(queued)).find(|((a, b), r)| !judge.same(r, a, b))
        {
            return (r.clone(), a.clone(), b.clone());
        }
        (request.clone(), ours.clone(), theirs.clone())
    }

    /// Keeps book of MULTI. The replies tell: a broken EXEC leaves the transaction open.
    fn follow(&mut self, request: &Request, reply: &Value) {
        match (request.name, reply) {
            (_, Value::Status(s)) if s == b"QUEUED" => {
                if let Some(queued) = &mut self.queued {
                    queued.push(request.clone());
                }
            }
            ("multi", Value::Status(_)) => self.queued = Some(Vec::new()),
            ("exec", Value::Array(_) | Value::Null | Value::NullArray) => self.queued = None,
            ("exec", Value::Error(e)) if e.starts_with(b"EXECABORT") => self.queued = None,
            ("discard" | "reset", Value::Status(_)) => self.queued = None,
            _ => {}
        }
    }

    /// What has arrived of pushes and replies, up to the answer to a PING with this text.
    pub fn drain(&mut self, sentinel: &str) -> [Vec<Value>; 2] {
        let text = Value::Bulk(sentinel.as_bytes().to_vec());
        let subscribed = Value::Array(vec![Value::Bulk(b"pong".to_vec()), text.clone()]);
        for conn in &mut self.conns {
            conn.awaited = format!("PING {sentinel}");
            conn.send(&["PING", sentinel]);
        }
        self.conns.each_mut().map(|conn| {
            let mut all = Vec::new();
            loop {
                match conn.reply() {
                    v if v == text || v == subscribed => return all,
                    v => all.push(v),
                }
            }
        })
    }

    /// True if both are open, false if both are closed; `None` if they disagree.
    pub fn alive(&mut self) -> Option<bool> {
        let [ours, theirs] = self.conns.each_mut().map(|conn| {
            conn.send(&["PING"]);
            conn.try_reply().is_some()
        });
        (ours == theirs).then_some(ours)
    }

    /// Waits until so many clients wait on each server.
    pub fn until_blocked(&mut self, count: usize) {
        let line = format!("blocked_clients:{count}\r\n");
        for conn in &mut self.conns {
            conn.awaited = line.clone();
            loop {
                let info = conn.call(&["INFO", "clients"]);
                if String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).contains(&line) {
                    break;
                }
            }
        }
    }

    /// Says goodbye and waits until both servers have closed: they know then that it is gone.
    pub fn quit(mut self) {
        for conn in &mut self.conns {
            conn.send(&["QUIT"]);
            while conn.try_reply().is_some() {}
        }
    }
}

/// The differences of a run, the first of each command.
pub struct Findings {
    first: BTreeMap<String, Difference>,
    pub count: usize,
    /// Tell of each, not only the first of its kind.
    tell_all: bool,
    /// Set by a test that wants to find something.
    expected: bool,
}

impl Findings {
    /// Nothing yet.
    pub fn new() -> Findings {
        let tell_all = std::env::var_os("REDSTART_ALL").is_some();
        Findings {
            first: BTreeMap::new(),
            count: 0,
            tell_all,
            expected: false,
        }
    }

    /// Notes a difference.
    pub fn add(&mut self, name: &str, text: String) {
        self.count += 1;
        if self.tell_all {
            println!("[{name}] {text}");
        }
        self.first.entry(name.into()).or_insert_with(|| Difference {
            name: name.into(),
            text,
        });
    }

    /// Fails if there are any.
    pub fn assert_none(&self) {
        assert!(self.first.is_empty(), "the servers differ, see above");
    }
}

/// However a run ends, what it found is told.
impl Drop for Findings {
    fn drop(&mut self) {
        if self.count > 0 && !self.expected {
            println!("{} differences, the first of each kind:", self.count);
        }
        for Difference { name, text } in self.first.values().filter(|_| !self.expected) {
            println!("[{name}] {text}");
        }
    }
}

#[test]
fn what_differs_is_found() {
    let nodes = both(&[]);
    let judge = Judge {
        peer: nodes[1].version(),
    };
    let mut pair = Pair::new(&nodes);
    let mut found = Findings::new();
    found.expected = true;
    for (conn, value) in pair.conns.iter_mut().zip(["ours", "theirs"]) {
        conn.call(&["SET", "k", value]);
    }
    for (words, count) in [
        (&["ECHO", "k"][..], 0),
        (&["GET", "k"], 1),
        (&["STRLEN", "k"], 2),
        (&["MULTI"], 2),
        (&["GET", "k"], 2),
        (&["EXEC"], 3),
        (&["DEBUG", "DIGEST"], 4),
    ] {
        let name = words[0].to_ascii_lowercase();
        let request = Request::of(name.leak(), words);
        pair.send(std::slice::from_ref(&request), &Default::default());
        pair.judge(&request, &judge, "", &mut found);
        assert_eq!(found.count, count, "{words:?}");
    }
}
