//! A session with a server: the connection with what it remembers (database, transaction, subscriptions, protocol), and
//! what is printed of what comes back.
//!
//! A connection that broke is made anew for the next command. A server of a cluster may send a command elsewhere
//! (`-MOVED`, `-ASK`); with `-c` the session goes there and issues it again.

use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use super::debug::{self, Debug};
use super::format::{self, Style};
use super::help::{self, Help};
use super::link::{Address, Interrupt, Link, LinkError};
use super::number::atoi;
use super::options::{Options, Protocol};
use super::out::{self, Stop, complain, lossy, say};
use super::sync;
use crate::resp::value::Value;
use crate::tls::Caller;

/// What becomes of messages that the server sends by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pushes {
    Drop,
    Show,
    /// They are what is waited for.
    Deliver,
}

/// How loud a failure to connect is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Quiet,
    Loud,
}

/// It did not work, and the session has to do with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// What a command led to, if the program goes on.
pub type Done = Result<(), Failed>;

/// See the head of the file.
pub struct Session {
    pub options: Options,
    link: Option<Link>,
    /// Why the connection is of no use.
    error: Option<LinkError>,
    pushes: Pushes,
    /// The database that is selected.
    pub db: i32,
    pub in_multi: bool,
    db_before_multi: i32,
    pub subscribed: bool,
    monitoring: bool,
    shutting_down: bool,
    resp3: bool,
    /// Commands come one after the other, and the program outlives an error.
    pub interactive: bool,
    redirected: bool,
    asking: bool,
    last: Option<Value>,
    pub interrupt: Option<Interrupt>,
    help: Option<Rc<Help>>,
    pub debug: Debug,
}

/// Why there is no connection.
pub enum NotDialled {
    /// The place, and the system's words.
    Refused { place: String, why: String },
    /// The options of TLS can't be.
    NoTls(&'static str),
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(options: Options) -> Session {
        Session {
            options,
            link: None,
            error: None,
            pushes: Pushes::Drop,
            db: 0,
            in_multi: false,
            db_before_multi: 0,
            subscribed: false,
            monitoring: false,
            shutting_down: false,
            resp3: false,
            interactive: false,
            redirected: false,
            asking: false,
            last: None,
            interrupt: None,
            help: None,
            debug: Debug::default(),
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// The connection, for modes that speak over it themselves.
    pub fn link(&mut self) -> Result<&mut Link, Stop> {
        self.link.as_mut().ok_or(Stop(1))
    }

    /// The connection, for good.
    pub fn take_link(&mut self) -> Result<Link, Stop> {
        self.link.take().ok_or(Stop(1))
    }

    /// The documentation of the commands, asked for once.
    pub fn help(&mut self) -> Rc<Help> {
        if let Some(help) = &self.help {
            return help.clone();
        }
        let help = Rc::new(Help::gather(self));
        self.help = Some(help.clone());
        help
    }

    /// Connects if there is no connection.
    pub fn connect(&mut self, tone: Tone) -> Done {
        if self.link.is_none() {
            self.reconnect(tone)?;
        }
        Ok(())
    }

    /// Connects anew, says who it is, and selects database and protocol.
    pub fn reconnect(&mut self, tone: Tone) -> Done {
        self.link = None;
        self.error = None;
        self.db = 0;
        self.in_multi = false;
        self.subscribed = false;
        self.resp3 = false;
        self.pushes = Pushes::Drop;
        match self.dial() {
            Ok(link) => self.link = Some(link),
            Err(NotDialled::NoTls(why)) => {
                complain!("Could not negotiate a TLS connection: {why}\n");
                return Err(Failed);
            }
            Err(NotDialled::Refused { place, why }) => {
                if tone == Tone::Loud {
                    complain!("Could not connect to Redis at {place}: {why}\n");
                }
                return Err(Failed);
            }
        }
        self.authenticate()?;
        self.select()?;
        self.switch_protocol()?;
        self.show_pushes();
        Ok(())
    }

    /// Opens a connection, and does nothing with it.
    pub fn dial(&self) -> Result<Link, NotDialled> {
        let place = &self.options.place;
        let (name, link) = match &self.options.socket {
            // A redirection names a host.
            Some(path) if !(self.options.cluster && self.redirected) => {
                (lossy(path).into(), Link::connect(&Address::Unix(path)))
            }
            _ => {
                let port = u16::try_from(place.port).unwrap_or(0);
                let name = format!("{}:{}", lossy(&place.host), place.port);
                (name, Link::connect(&Address::Tcp(&place.host, port)))
            }
        };
        let refused = |why| NotDialled::Refused { place: name, why };
        if !place.tls.on {
            return link.map_err(refused);
        }
        match (link, Caller::new(&place.tls)) {
            (Ok(_), Err(why)) => Err(NotDialled::NoTls(why)),
            (Ok(link), Ok(caller)) => link.secure(&caller).map_err(refused),
            (Err(why), _) => Err(refused(why)),
        }
    }

    /// Messages that come by themselves are shown, if they are to be.
    fn show_pushes(&mut self) {
        if self.options.show_pushes {
            self.pushes = Pushes::Show;
        }
    }

    /// Sends a command of the session's own.
    fn ask(&mut self, args: &[&[u8]]) -> Result<Value, Failed> {
        let Some(link) = &mut self.link else {
            return Err(Failed);
        };
        link.command(args).map_err(|error| {
            complain!("\nI/O error\n");
            self.error = Some(error);
            Failed
        })
    }

    fn authenticate(&mut self) -> Done {
        let Some(password) = self.options.place.password.clone() else {
            return Ok(());
        };
        let reply = match self.options.place.user.clone() {
            None => self.ask(&[b"AUTH", &password])?,
            Some(user) => self.ask(&[b"AUTH", &user, &password])?,
        };
        match reply {
            Value::Error(why) => {
                complain!("AUTH failed: {}\n", lossy(&why));
                Err(Failed)
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self) -> Done {
        let wanted = self.options.place.db;
        if wanted == self.db {
            return Ok(());
        }
        match self.ask(&[b"SELECT", wanted.to_string().as_bytes()])? {
            Value::Error(why) => {
                complain!("SELECT {wanted} failed: {}\n", lossy(&why));
                Err(Failed)
            }
            _ => {
                self.db = wanted;
                Ok(())
            }
        }
    }

    fn switch_protocol(&mut self) -> Done {
        if self.options.protocol == Protocol::Default || self.options.resp2 {
            return Ok(());
        }
        if let Value::Error(why) = self.ask(&[b"HELLO", b"3"])? {
            complain!("HELLO 3 failed: {}\n", lossy(&why));
            if self.options.protocol == Protocol::Require3 {
                return Err(Failed);
            }
        }
        self.resp3 = true;
        Ok(())
    }

    /// Says what happened to the connection.
    pub fn print_error(&self) {
        match (&self.error, &self.link) {
            (Some(error), _) => complain!("Error: {error}\n"),
            (None, Some(_)) => complain!("Error: \n"),
            (None, None) => {}
        }
    }

    /// Prints what the program cannot go on after, and ends it.
    fn fatal(&self) -> Stop {
        self.print_error();
        Stop(1)
    }

    /// Sends a command `repeat` times (for ever, if negative), prints the replies, and follows redirections.
    pub fn issue(&mut self, args: &[Vec<u8>], repeat: i64) -> Result<Done, Stop> {
        let Some(name) = args.first() else {
            return Ok(Ok(()));
        };
        let is_help = name.eq_ignore_ascii_case(b"help") || name == b"?";
        if is_help && !self.debug.is_on {
            help::command(self, &args[1..]);
            return Ok(Ok(()));
        }
        loop {
            if self.redirected || self.link.is_none() || self.error.is_some() {
                let connected = self.reconnect(Tone::Loud);
                self.redirected = false;
                if connected.is_err() {
                    if self.link.is_some() {
                        self.print_error();
                    }
                    return Ok(Err(Failed));
                }
            }
            if std::mem::take(&mut self.asking) && self.send_asking().is_err() {
                self.print_error();
                return Ok(Err(Failed));
            }
            if self.send(args, repeat)?.is_err() {
                self.print_error();
                self.link = None;
                self.error = None;
                return Ok(Err(Failed));
            }
            if !(self.options.cluster && self.redirected) {
                return Ok(Ok(()));
            }
        }
    }

    fn send_asking(&mut self) -> Done {
        match self.ask(&[b"ASKING"])? {
            Value::Error(why) => {
                complain!("ASKING failed: {}\n", lossy(&why));
                Err(Failed)
            }
            _ => Ok(()),
        }
    }

    fn send(&mut self, args: &[Vec<u8>], mut repeat: i64) -> Result<Done, Stop> {
        let command = Command::of(args);
        match command.kind {
            Kind::Shutdown => self.shutting_down = true,
            Kind::Monitor => self.monitoring = true,
            Kind::Debug(yes) => self.debug.on_eval = yes,
            Kind::Eval if self.debug.on_eval => self.begin_debugging(),
            _ => {}
        }
        while repeat != 0 {
            repeat -= i64::from(repeat > 0);
            let Some(link) = &mut self.link else {
                return Ok(Err(Failed));
            };
            link.append(args);
            match command.kind {
                Kind::Monitor => return self.monitor(command.raw),
                Kind::Sync => {
                    say!("Entering replica output mode...  (press Ctrl-C to quit)\n");
                    sync::follow(self, false)?;
                    return Ok(Err(Failed));
                }
                _ => {}
            }
            if self.wait_for_reply(args, &command)?.is_err() {
                return Ok(Err(Failed));
            }
            if self.redirected {
                // To be issued again, to another: not to be repeated here.
                break;
            }
            wait_us(self.options.interval_us);
            out::flush();
        }
        Ok(Ok(()))
    }

    /// Prints what MONITOR brings, until it is interrupted or was refused.
    fn monitor(&mut self, raw: bool) -> Result<Done, Stop> {
        self.interrupt_ends_wait();
        while self.monitoring {
            if self.read_reply(raw)?.is_err() {
                return Err(self.fatal());
            }
            if self.last.as_ref().is_some_and(Value::is_error) {
                self.monitoring = false;
            }
        }
        self.interrupt_ends_wait();
        Ok(Ok(()))
    }

    fn interrupt_ends_wait(&self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.is_for_wait(self.monitoring || self.subscribed);
        }
    }

    /// Reads until the command is answered. Subscriptions are confirmed by messages, one for each channel, and other
    /// messages may come in between.
    fn wait_for_reply(&mut self, args: &[Vec<u8>], command: &Command) -> Result<Done, Stop> {
        let mut confirmations = 0;
        if command.is_subscription() {
            confirmations = args.len().saturating_sub(1).max(1);
            self.pushes = Pushes::Deliver;
        }
        loop {
            if self.read_reply(command.raw)?.is_err() {
                return Ok(Err(Failed));
            }
            if !self.subscribed && confirmations == 0 {
                break;
            }
            let Some(last) = &self.last else { break };
            let Some(kind) = self.message_kind(last) else {
                match last.is_push() {
                    true => continue,
                    false => break,
                }
            };
            if confirmations == 0 || !kind.eq_ignore_ascii_case(&args[0]) {
                continue;
            }
            if command.kind == Kind::Subscribe {
                self.subscribed = true;
                self.interrupt_ends_wait();
            }
            confirmations -= 1;
            if confirmations == 0 {
                break;
            }
        }
        self.remember(args, command);
        Ok(Ok(()))
    }

    /// The kind of a message of a channel or a confirmation, such as `message`, `psubscribe`.
    fn message_kind<'a>(&self, value: &'a Value) -> Option<&'a [u8]> {
        let items = match value {
            Value::Push(items) if self.resp3 => items,
            Value::Array(items) if !self.resp3 => items,
            _ => return None,
        };
        match &items[..] {
            [Value::Bulk(kind), _, _, ..] => Some(kind.as_slice())
                .filter(|kind| kind.ends_with(b"message") || kind.ends_with(b"subscribe")),
            _ => None,
        }
    }

    /// What a command that was answered means for the session.
    fn remember(&mut self, args: &[Vec<u8>], command: &Command) {
        let argc = args.len();
        let refused = self.last.as_ref().is_some_and(Value::is_error);
        let is_nil = matches!(self.last, Some(Value::Null | Value::NullArray));
        match command.kind {
            Kind::Select if argc == 2 && !refused => self.use_db(atoi(&args[1])),
            Kind::Auth if argc == 2 || argc == 3 => {
                // (What is wrong has been said.)
                let _ = self.select();
            }
            Kind::Multi if argc == 1 && !refused => {
                self.in_multi = true;
                self.db_before_multi = self.db;
            }
            Kind::Exec if argc == 1 && self.in_multi => {
                self.in_multi = false;
                if refused || is_nil {
                    self.use_db(self.db_before_multi);
                }
            }
            Kind::Discard if argc == 1 && !refused => {
                self.in_multi = false;
                self.use_db(self.db_before_multi);
            }
            Kind::Reset if argc == 1 && !refused => {
                self.in_multi = false;
                self.use_db(0);
                self.resp3 = false;
                if self.subscribed {
                    self.show_pushes();
                }
                self.subscribed = false;
                self.interrupt_ends_wait();
            }
            Kind::Hello => match self.last {
                Some(Value::Map(_)) => self.resp3 = true,
                Some(Value::Array(_)) => self.resp3 = false,
                _ => {}
            },
            Kind::Subscribe | Kind::Unsubscribe if !self.subscribed => self.show_pushes(),
            _ => {}
        }
    }

    fn use_db(&mut self, db: i32) {
        self.db = db;
        self.options.place.db = db;
    }

    /// Waits for a reply and prints it. `raw`: as it is, whatever the style.
    pub fn read_reply(&mut self, raw: bool) -> Result<Done, Stop> {
        self.last = None;
        let value = match self.next_value() {
            Ok(value) => value,
            Err(LinkError::Interrupted) => {
                self.monitoring = false;
                self.subscribed = false;
                self.interrupt_ends_wait();
                return Ok(self.reconnect(Tone::Loud));
            }
            Err(error) => {
                if self.shutting_down {
                    self.link = None;
                    return Ok(Ok(()));
                }
                let gone = error.is_gone();
                self.error = Some(error);
                if self.interactive && gone {
                    return Ok(Err(Failed));
                }
                return Err(self.fatal());
            }
        };
        if let Value::Error(text) = &value {
            if self.options.cluster && self.redirect(text) {
                self.last = Some(value);
                return Ok(Ok(()));
            }
            if !self.interactive && self.options.exit_on_error {
                complain!("{}\n", lossy(text));
                return Err(Stop(1));
            }
        }
        self.print(&value, raw);
        self.last = Some(value);
        Ok(Ok(()))
    }

    /// What is sent from now on goes to a debugger.
    pub fn begin_debugging(&mut self) {
        self.debug.is_on = true;
        self.options.style = Style::Raw;
    }

    /// Prints what a debugger says.
    fn print_debugging(&mut self, value: &Value) {
        let delimiters = &self.options.delimiters;
        let text = debug::text(value, &delimiters.element, &mut self.debug);
        out::bytes(&text);
        out::bytes(&delimiters.reply);
        out::flush();
        if self.debug.has_ended {
            self.options.style = Style::Standard;
        }
    }

    /// Prints a reply.
    fn print(&mut self, value: &Value, raw: bool) {
        if self.debug.is_on {
            return self.print_debugging(value);
        }
        let delimiters = &self.options.delimiters;
        if raw {
            let mut text = Vec::new();
            format::raw(value, &delimiters.element, &mut text);
            out::bytes(&text);
        } else {
            out::bytes(&format::reply(value, self.options.style, delimiters));
        }
        out::flush();
    }

    /// The next reply, or message if those are waited for.
    fn next_value(&mut self) -> Result<Value, LinkError> {
        loop {
            let waiting = self.monitoring || self.subscribed;
            let interrupt = self.interrupt.as_ref().filter(|_| waiting);
            let Some(link) = &mut self.link else {
                return Err(LinkError::Closed);
            };
            let value = link.read(interrupt)?;
            if !value.is_push() || self.pushes == Pushes::Deliver {
                return Ok(value);
            }
            if self.pushes == Pushes::Show {
                let options = &self.options;
                out::bytes(&format::push(&value, options.style, &options.delimiters));
            }
        }
    }

    /// Prints what has arrived already.
    pub fn print_arrived(&mut self) -> Result<(), Stop> {
        loop {
            let arrived = match &mut self.link {
                Some(link) => link.next_arrived(),
                None => return Ok(()),
            };
            match arrived {
                Ok(Some(value)) => self.print(&value, false),
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.error = Some(error);
                    return Err(self.fatal());
                }
            }
        }
    }

    /// Whether an error sends the command to another server; then that is where the session is to go.
    fn redirect(&mut self, error: &[u8]) -> bool {
        let is_ask = error.starts_with(b"ASK ");
        if !is_ask && !error.starts_with(b"MOVED ") {
            return false;
        }
        let mut words = error.splitn(3, |&b| b == b' ').skip(1);
        let (Some(slot), Some(address)) = (words.next(), words.next()) else {
            return false;
        };
        let Some(colon) = address.iter().rposition(|&b| b == b':') else {
            return false;
        };
        let place = &mut self.options.place;
        // A server that does not know its name leaves it out: it is where we are.
        if colon > 0 {
            place.host = address[..colon].to_vec();
        }
        place.port = atoi(&address[colon + 1..]);
        if self.interactive {
            say!(
                "-> Redirected to slot [{}] located at {}:{}\n",
                atoi(slot),
                lossy(&place.host),
                place.port
            );
        }
        self.redirected = true;
        self.asking |= is_ask;
        true
    }

    /// Who is spoken to, and in which state, as the prompt shows it.
    pub fn prompt(&self) -> String {
        if self.link.is_none() {
            return "not connected> ".to_string();
        }
        if self.debug.is_on {
            return "lua debugger> ".to_string();
        }
        let place = &self.options.place;
        let host = lossy(&place.host);
        let mut text = match &self.options.socket {
            Some(path) => format!("redis {}", lossy(path)),
            None if host.contains(':') => format!("[{host}]:{}", place.port),
            None => format!("{host}:{}", place.port),
        };
        if self.db != 0 {
            text += &format!("[{}]", self.db);
        }
        if self.in_multi {
            text += "(TX)";
        }
        if self.subscribed {
            text += "(subscribed mode)";
        }
        text + "> "
    }

    /// Prints messages until the subscription is left.
    pub fn print_messages(&mut self) -> Result<(), Stop> {
        while self.subscribed {
            if self.read_reply(false)?.is_err() {
                return Err(self.fatal());
            }
        }
        Ok(())
    }

    /// Replies go out as CSV from now on, as long as they come.
    pub fn print_stream(&mut self) -> Result<(), Stop> {
        let style = std::mem::replace(&mut self.options.style, Style::Csv);
        while self.read_reply(false)?.is_ok() {}
        self.options.style = style;
        Ok(())
    }
}

/// Waits so many microseconds.
pub fn wait_us(us: i64) {
    if let Ok(us @ 1..) = u64::try_from(us) {
        sleep(Duration::from_micros(us));
    }
}

/// What the session has to know about a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other,
    Shutdown,
    Monitor,
    Sync,
    Subscribe,
    Unsubscribe,
    Select,
    Auth,
    Multi,
    Exec,
    Discard,
    Reset,
    Hello,
    Eval,
    /// SCRIPT DEBUG, and whether it switches that on.
    Debug(bool),
}

struct Command {
    kind: Kind,
    /// The reply is a text for people, to be printed as it is.
    raw: bool,
}

impl Command {
    fn of(args: &[Vec<u8>]) -> Command {
        let word = |at: usize| args.get(at).map(|arg| arg.to_ascii_lowercase());
        let (name, sub) = (word(0).unwrap_or_default(), word(1));
        let kind = match &name[..] {
            b"shutdown" => Kind::Shutdown,
            b"monitor" => Kind::Monitor,
            b"sync" | b"psync" => Kind::Sync,
            b"subscribe" | b"psubscribe" | b"ssubscribe" => Kind::Subscribe,
            b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => Kind::Unsubscribe,
            b"select" => Kind::Select,
            b"auth" => Kind::Auth,
            b"multi" => Kind::Multi,
            b"exec" => Kind::Exec,
            b"discard" => Kind::Discard,
            b"reset" => Kind::Reset,
            b"hello" => Kind::Hello,
            b"eval" => Kind::Eval,
            b"script" if args.len() == 3 && sub.as_deref() == Some(b"debug") => {
                Kind::Debug(matches!(word(2).as_deref(), Some(b"yes" | b"sync")))
            }
            _ => Kind::Other,
        };
        let raw = matches!(
            (&name[..], sub.as_deref(), args.len()),
            (b"info" | b"lolwut", _, _)
                | (
                    b"debug",
                    Some(b"htstats" | b"htstats-key" | b"client-eviction"),
                    _
                )
                | (b"memory", Some(b"malloc-stats" | b"doctor"), _)
                | (b"cluster", Some(b"nodes" | b"info"), 2)
                | (b"client", Some(b"list" | b"info"), _)
                | (b"latency", Some(b"graph"), 3)
                | (b"latency", Some(b"doctor"), 2)
                | (b"proxy", Some(b"info"), _)
        );
        Command { kind, raw }
    }

    fn is_subscription(&self) -> bool {
        matches!(self.kind, Kind::Subscribe | Kind::Unsubscribe)
    }
}
