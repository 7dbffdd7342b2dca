//! Looking up names, which takes as long as the resolver does: half a minute where a name server is dead.
//!
//! So every question has a thread of its own, and one that hangs holds up nobody but those who ask the same: they share
//! its answer. No more than [`THREADS_MAX`] ask at once; who comes later waits until one of them is done.
//!
//! ```text
//! ask ──▶ the same is asked already? ──▶ one more who waits for that answer
//!               │ no
//!               └──▶ a thread (or the queue for one) ──▶ next_found: a Dialled for each who waits
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::Dialled;
use crate::ae::Waker;
use crate::base::errno;
use crate::exec::conn::Token;
use crate::exec::link::Target;
use crate::server::bio;

/// Questions that are asked at once.
const THREADS_MAX: usize = 16;
const THREAD_NAME: &str = "bio_resolve";

/// The addresses of a name, whatever their ports, or the resolver's words for why there are none.
type Found = Result<Vec<SocketAddr>, String>;

/// Who knows them: the system's resolver, but for tests.
type Book = Arc<dyn Fn(&str) -> Found + Send + Sync>;

/// What is asked: the name of where a link leads, and of where it is to come from (empty: anywhere).
type Question = (String, String);

/// What was found for both.
type Answer = (Found, Option<IpAddr>);

/// A question that is not answered yet.
struct Asked {
    question: Question,
    /// The links that wait for the answer: token, serial, port.
    waiting: Vec<(Token, u64, u16)>,
    /// A thread is at it.
    begun: bool,
}

/// See the head of the file.
pub struct Resolver {
    book: Book,
    waker: Waker,
    /// `bio_cpulist`
    cpus: String,
    /// The oldest first.
    asked: Vec<Asked>,
    answers: Receiver<(Question, Answer)>,
    answer: Sender<(Question, Answer)>,
    found: VecDeque<Dialled>,
}

impl Resolver {
    /// Nobody has asked anything. `waker` is called when there is an answer; threads are bound to these CPUs.
    pub fn new(waker: Waker, cpus: String) -> Resolver {
        Resolver::with_book(waker, cpus, Arc::new(addresses))
    }

    fn with_book(waker: Waker, cpus: String, book: Book) -> Resolver {
        let (answer, answers) = mpsc::channel();
        Resolver {
            book,
            waker,
            cpus,
            asked: Vec::new(),
            answers,
            answer,
            found: VecDeque::new(),
        }
    }

    /// Looks up where this link leads.
    pub fn ask(&mut self, token: Token, serial: u64, target: &Target) {
        let question = (target.host.clone(), target.source.clone());
        let link = (token, serial, target.port);
        match self.asked.iter_mut().find(|a| a.question == question) {
            Some(asked) => asked.waiting.push(link),
            None => self.asked.push(Asked {
                question,
                waiting: vec![link],
                begun: false,
            }),
        }
        self.begin();
    }

    /// The next link of which it is known where it may lead.
    pub fn next_found(&mut self) -> Option<Dialled> {
        while let Ok((question, answer)) = self.answers.try_recv() {
            self.answered(&question, &answer);
            self.begin();
        }
        self.found.pop_front()
    }

    /// Starts as many threads as there may be.
    fn begin(&mut self) {
        let begun = self.asked.iter().filter(|asked| asked.begun).count();
        let waiting = self.asked.iter_mut().filter(|asked| !asked.begun);
        let mut refused = Vec::new();
        for asked in waiting.take(THREADS_MAX.saturating_sub(begun)) {
            asked.begun = true;
            let (book, question) = (self.book.clone(), asked.question.clone());
            let (answer, waker) = (self.answer.clone(), self.waker.clone());
            let started = bio::spawn(THREAD_NAME, 0, self.cpus.clone(), move || {
                let found = look_up(&*book, &question);
                // Nobody takes it at the end of the process.
                let _ = answer.send((question, found));
                waker.wake();
            });
            if let Err(e) = started {
                refused.push((asked.question.clone(), errno::text(&e)));
            }
        }
        for (question, why) in refused {
            self.answered(&question, &(Err(why), None));
        }
    }

    fn answered(&mut self, question: &Question, (found, source): &Answer) {
        let Some(at) = self.asked.iter().position(|a| a.question == *question) else {
            return;
        };
        for (token, serial, port) in self.asked.remove(at).waiting {
            let mut found = found.clone();
            if let Ok(addrs) = &mut found {
                addrs.iter_mut().for_each(|addr| addr.set_port(port));
            }
            self.found.push_back(Dialled {
                token,
                serial,
                found,
                source: *source,
            });
        }
    }
}

fn look_up(book: &dyn Fn(&str) -> Found, (host, source): &Question) -> Answer {
    let ask = |name: &str| {
        let found = catch_unwind(AssertUnwindSafe(|| book(name)));
        // (The log has the panic already.)
        found.unwrap_or_else(|_| Err("The look-up of the name has failed".into()))
    };
    let source = match source.as_str() {
        "" => None,
        source => ask(source)
            .ok()
            .and_then(|addrs| addrs.first().map(SocketAddr::ip)),
    };
    (ask(host), source)
}

/// Asks the system's resolver.
fn addresses(name: &str) -> Found {
    let found = (name, 0).to_socket_addrs().map(Vec::from_iter);
    found.map_err(|e| resolver_words(&e))
}

/// The same where the loop waits for it, and not longer than this.
pub(super) fn addresses_within(name: &str, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = name.parse() {
        return Ok(vec![SocketAddr::new(ip, 0)]);
    }
    let (answer, answers) = mpsc::channel();
    let owned = name.to_string();
    bio::spawn(THREAD_NAME, 0, String::new(), move || {
        let _ = answer.send(addresses(&owned));
    })?;
    match answers.recv_timeout(timeout) {
        Ok(found) => found.map_err(|why| io::Error::new(io::ErrorKind::NotFound, why)),
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The first address that a name stands for.
pub fn first_address(name: &str) -> Option<String> {
    first(addresses(name).ok()?)
}

/// The same where the loop waits for it, and not longer than this.
pub fn first_address_within(name: &str, timeout: Duration) -> Option<String> {
    first(addresses_within(name, timeout).ok()?)
}

fn first(addrs: Vec<SocketAddr>) -> Option<String> {
    addrs
        .first()
        .map(|addr| super::canonical(*addr).ip().to_string())
}

/// What the resolver says of a name that it does not know: its own words come last.
pub(super) fn resolver_words(e: &io::Error) -> String {
    let text = errno::text(e);
    text.rsplit(": ").next().unwrap_or(&text).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ae::Reactor;

    /// A book that knows every name but those of a dead server, which are looked for until somebody says that there is
    /// no use; and what was looked for.
    struct SlowBook {
        no_use: Sender<()>,
        looked_for: Arc<Mutex<Vec<String>>>,
        reactor: Reactor,
        resolver: Resolver,
        serial: u64,
    }

    impl SlowBook {
        fn new() -> SlowBook {
            let (no_use, told) = mpsc::channel();
            let (told, looked_for) = (Mutex::new(told), Arc::<Mutex<Vec<_>>>::default());
            let seen = looked_for.clone();
            let book = move |name: &str| {
                seen.lock().unwrap().push(name.to_string());
                if name == "bad" {
                    panic!("a bad page");
                }
                if name.starts_with("dead") {
                    told.lock().unwrap().recv().unwrap();
                    return Err("Temporary failure in name resolution".into());
                }
                Ok(vec![SocketAddr::from(([10, 0, 0, name.len() as u8], 0))])
            };
            let reactor = Reactor::new().unwrap();
            let resolver = Resolver::with_book(reactor.waker(), String::new(), Arc::new(book));
            SlowBook {
                no_use,
                looked_for,
                reactor,
                resolver,
                serial: 0,
            }
        }

        fn ask(&mut self, name: &str, source: &str) {
            self.serial += 1;
            let target = Target {
                host: name.into(),
                port: 7000 + self.serial as u16,
                source: source.into(),
                tls: false,
            };
            self.resolver.ask(Token(1), self.serial, &target);
        }

        /// The next answer, for which the loop is woken: which link it is for, and what was found.
        fn wait(&mut self) -> (u64, String) {
            loop {
                if let Some(Dialled {
                    serial,
                    found,
                    source,
                    ..
                }) = self.resolver.next_found()
                {
                    return (serial, format!("{found:?} {source:?}"));
                }
                self.reactor.wait(None).unwrap();
            }
        }
    }

    const DEAD: &str = "Err(\"Temporary failure in name resolution\") None";

    #[test]
    fn a_name_that_hangs_holds_nobody_up() {
        let mut w = SlowBook::new();
        w.ask("dead", "");
        w.ask("alive", "here");
        assert_eq!(w.wait(), (2, "Ok([10.0.0.5:7002]) Some(10.0.0.4)".into()));
        // Whoever asks the same waits with the first, and is not another question.
        w.ask("dead", "");
        w.ask("bad", "");
        let failed = "Err(\"The look-up of the name has failed\") None";
        assert_eq!(w.wait(), (4, failed.into()));
        assert!(w.resolver.next_found().is_none());
        w.no_use.send(()).unwrap();
        assert_eq!([w.wait(), w.wait()], [(1, DEAD.into()), (3, DEAD.into())]);
        let looked_for = w.looked_for.lock().unwrap();
        assert_eq!(looked_for.iter().filter(|name| *name == "dead").count(), 1);
    }

    #[test]
    fn so_many_hang_at_once_and_the_others_come_after_them() {
        let mut w = SlowBook::new();
        for n in 0..THREADS_MAX {
            w.ask(&format!("dead{n}"), "");
        }
        w.ask("alive", "");
        assert_eq!(
            w.resolver.asked.iter().filter(|a| a.begun).count(),
            THREADS_MAX
        );
        assert!(!w.looked_for.lock().unwrap().contains(&"alive".to_string()));
        w.no_use.send(()).unwrap();
        assert_eq!(w.wait().1, DEAD);
        let last = THREADS_MAX as u64 + 1;
        assert_eq!(
            w.wait(),
            (last, format!("Ok([10.0.0.5:{}]) None", 7000 + last))
        );
        for _ in 1..THREADS_MAX {
            w.no_use.send(()).unwrap();
        }
    }
}
