//! Redis's Lua debugger: a script that stops at its lines and asks what to do.
//!
//! Before each line the interpreter calls [`hook`]. Where the script is to stop, whoever debugs it is shown the line, and
//! types commands until one lets it go on: `step` to the next line, `continue` to the next breakpoint. What there is to say
//! gathers in a log and is sent as one reply, an array of statuses; commands come in the form of any other command.
//! Both ways go through the [`Host`](crate::script::host::Host), which also says when nobody is there any more: then the
//! script runs to its end.

use std::ffi::c_int;

use crate::base::number::{leading_i64, parse_i64};
use crate::script::lua::{DebugInfo, Level, Lua, State};
use crate::script::vm::Shared;
use crate::script::{api, error, inspect};

/// So many breakpoints there may be.
const BREAKPOINTS_MAX: usize = 64;
/// Values and replies are cut at this many bytes, unless `maxlen` says otherwise; and the least that it may say.
const LEN_MAX: usize = 256;
const LEN_MAX_LEAST: usize = 60;
/// Limits on a command: arguments, bytes of one, bytes that are not complete yet.
const ARGS_MAX: i64 = 1024;
const ARG_LEN_MAX: i64 = 1024;
const INPUT_MAX: usize = 1 << 20;
/// Lines around the current one that `list` shows.
const CONTEXT: i64 = 5;
/// Arguments of a command that are shown.
const ARGS_SHOWN: usize = 10;
/// What the file of a script is called in messages of Lua's.
const SCRIPT: &[u8] = b"user_script";

/// The state of a session.
pub struct Debugger {
    lines: Vec<Vec<u8>>,
    breakpoints: Vec<i64>,
    /// Stop at the next line. (While the script runs so, its commands are shown.)
    stepping: bool,
    /// `redis.breakpoint` was called.
    called: bool,
    line: i64,
    /// 0: nothing is cut.
    len_max: usize,
    hinted: bool,
    log: Vec<Vec<u8>>,
    input: Vec<u8>,
}

impl Debugger {
    /// A session with the script of this text. It stops at the first line.
    pub fn new(source: &[u8]) -> Debugger {
        let end = source.iter().rposition(|b| !b"\r\n".contains(b));
        let source = &source[..end.map_or(0, |at| at + 1)];
        let lines = source.split(|&b| b == b'\n').map(<[u8]>::to_vec);
        Debugger {
            lines: if source.is_empty() {
                Vec::new()
            } else {
                lines.collect()
            },
            breakpoints: Vec::new(),
            stepping: true,
            called: false,
            line: 0,
            len_max: LEN_MAX,
            hinted: false,
            log: Vec::new(),
            input: Vec::new(),
        }
    }

    fn say(&mut self, text: impl Into<Vec<u8>>) {
        self.log.push(text.into());
    }

    /// The same, cut if it is too long.
    fn say_cut(&mut self, mut text: Vec<u8>) {
        let is_cut = self.len_max > 0 && text.len() > self.len_max;
        if is_cut {
            text.truncate(self.len_max);
            text.extend_from_slice(b" ...");
        }
        self.log.push(text);
        if is_cut && !std::mem::replace(&mut self.hinted, true) {
            self.say("<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    /// What was said, as a reply; it is forgotten.
    pub fn take_log(&mut self) -> Vec<u8> {
        let mut reply = format!("*{}\r\n", self.log.len()).into_bytes();
        for mut line in self.log.drain(..) {
            for byte in line.iter_mut().filter(|b| b"\r\n".contains(b)) {
                *byte = b' ';
            }
            reply.push(b'+');
            reply.append(&mut line);
            reply.extend_from_slice(b"\r\n");
        }
        reply
    }

    /// The session is over: what is left to say, and a mark.
    pub fn end(&mut self) -> Vec<u8> {
        self.say("<endsession>");
        self.take_log()
    }

    /// A command is called.
    pub fn note_call(&mut self, argv: &[&[u8]]) {
        if !self.stepping {
            return;
        }
        let mut text = b"<redis>".to_vec();
        for arg in argv.iter().take(ARGS_SHOWN) {
            text.push(b' ');
            text.extend_from_slice(arg);
        }
        if argv.len() > ARGS_SHOWN {
            let left = argv.len() - ARGS_SHOWN - 1;
            text.extend_from_slice(format!(" ... ({left} more)").as_bytes());
        }
        self.say(text);
    }

    /// It has replied this.
    pub fn note_reply(&mut self, bytes: &[u8]) {
        if self.stepping {
            let mut text = b"<reply> ".to_vec();
            inspect::reply(bytes, &mut text);
            self.say_cut(text);
        }
    }

    /// An error came up.
    pub fn note_error(&mut self, text: &[u8]) {
        if self.stepping {
            self.say([b"<error> ", text].concat());
        }
    }

    /// `redis.breakpoint` was called.
    pub fn stop_soon(&mut self) {
        self.called = true;
    }

    /// `redis.debug` was called; its arguments are on the stack.
    pub fn note_values(&mut self, lua: Lua) {
        let mut text = format!("<debug> line {}: ", self.line).into_bytes();
        for at in 1..=lua.top() {
            if at > 1 {
                text.extend_from_slice(b", ");
            }
            inspect::value(lua, at, &mut text);
        }
        self.say(text);
    }

    fn source(&self, line: i64) -> &[u8] {
        let at = usize::try_from(line)
            .ok()
            .and_then(|line| line.checked_sub(1));
        let text = at.and_then(|at| self.lines.get(at));
        text.map_or(b"<out of range source code line>", Vec::as_slice)
    }

    fn say_line(&mut self, line: i64) {
        let stops = self.breakpoints.contains(&line);
        let mark = match (line == self.line, stops) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        let text = [format!("{mark}{line:<3} ").as_bytes(), self.source(line)].concat();
        self.say(text);
    }

    /// Shows the lines around one.
    fn list(&mut self, around: i64, context: i64) {
        for line in 1..=self.lines.len() as i64 {
            if around == 0 || (around - line).abs() <= context {
                self.say_line(line);
            }
        }
    }

    /// `break`.
    fn breakpoints(&mut self, argv: &[Vec<u8>]) {
        if argv.len() > 1 {
            return argv[1..].iter().for_each(|arg| self.breakpoint(arg));
        }
        if self.breakpoints.is_empty() {
            return self.say("No breakpoints set. Use 'b <line>' to add one.");
        }
        self.say(format!("{} breakpoints set:", self.breakpoints.len()));
        for line in self.breakpoints.clone() {
            self.say_line(line);
        }
    }

    /// Adds a breakpoint; removes one below 0, and all at 0.
    fn breakpoint(&mut self, arg: &[u8]) {
        let Some(line) = parse_i64(arg) else {
            return self.say([b"Invalid argument:'", arg, b"'"].concat());
        };
        let place = |breakpoints: &[i64], line| breakpoints.iter().position(|l| *l == line);
        match line {
            0 => {
                self.breakpoints.clear();
                self.say("All breakpoints removed.");
            }
            ..0 => match place(&self.breakpoints, line.saturating_neg()) {
                Some(at) => {
                    self.breakpoints.remove(at);
                    self.say("Breakpoint removed.");
                }
                None => self.say("No breakpoint in the specified line."),
            },
            _ if self.breakpoints.len() == BREAKPOINTS_MAX => self.say("Too many breakpoints set."),
            _ if line as usize <= self.lines.len() && place(&self.breakpoints, line).is_none() => {
                self.breakpoints.push(line);
                self.list(line, 1);
            }
            _ => self.say("Wrong line number."),
        }
    }

    /// `maxlen`.
    fn limit(&mut self, argv: &[Vec<u8>]) {
        if let [_, len] = argv {
            self.hinted = true;
            self.len_max = match leading_i64(len).0 {
                0 => 0,
                len => usize::try_from(len).unwrap_or(0).max(LEN_MAX_LEAST),
            };
        }
        match self.len_max {
            0 => self.say("<value> replies are unlimited."),
            len => self.say(format!("<value> replies are truncated at {len} bytes.")),
        }
    }

    /// The next command that was typed, if it is complete. What was typed behind it is dropped.
    fn take_command(&mut self) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
        if self.input.len() > INPUT_MAX {
            self.input.clear();
            return Err("max client buffer reached");
        }
        let command = parse_command(&self.input)?;
        if command.is_some() {
            self.input.clear();
        }
        Ok(command)
    }
}

/// A command in the protocol's form. Nothing that is wrong with it but its form matters.
fn parse_command(input: &[u8]) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
    const PROTOCOL: &str = "protocol error";
    if input.is_empty() {
        return Ok(None);
    }
    let start = memchr::memchr(b'*', input).ok_or(PROTOCOL)?;
    let mut rest = &input[start..];
    // The number behind a mark, of which the line's end has come.
    let number = |rest: &mut &[u8]| {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let n = leading_i64(&rest[1..end]).0;
        *rest = &rest[end + 2..];
        Some(n)
    };
    let Some(argc) = number(&mut rest) else {
        return Ok(None);
    };
    if !(1..=ARGS_MAX).contains(&argc) {
        return Err(PROTOCOL);
    }
    let mut argv = Vec::new();
    for _ in 0..argc {
        match rest.first() {
            None | Some(0) => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(PROTOCOL),
        }
        let Some(len) = number(&mut rest) else {
            return Ok(None);
        };
        if !(1..=ARG_LEN_MAX).contains(&len) {
            return Err(PROTOCOL);
        }
        let len = len as usize;
        let (Some(arg), Some(end)) = (rest.get(..len), rest.get(len..len + 2)) else {
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(PROTOCOL);
        }
        argv.push(arg.to_vec());
        rest = &rest[len + 2..];
    }
    Ok(Some(argv))
}

/// Does something with the session, if there is one.
pub fn with<T>(lua: Lua, f: impl FnOnce(&mut Debugger) -> T) -> Option<T> {
    let shared = Shared::of(lua);
    let mut debugger = shared.debugger.borrow_mut();
    debugger.as_mut().map(f)
}

/// What the interpreter calls before each line, and after so many instructions.
///
/// # Safety
/// For `lua_sethook` alone, on an interpreter of [`Vm`](crate::script::vm::Vm).
pub unsafe extern "C-unwind" fn hook(state: *mut State, info: *mut DebugInfo) {
    let lua = Lua::of(state);
    // SAFETY: Lua calls hooks with what it knows of the event.
    let counted = unsafe { Lua::counted(info) };
    if let Err(why) = stop(lua, counted) {
        error::push(lua, why.as_bytes());
        lua.raise_now();
    }
}

/// Stops, if the script is to stop here. `counted`: this is no new line. Gives the error that ends the script.
fn stop(lua: Lua, counted: bool) -> Result<(), &'static str> {
    let Some(level) = lua.level(0).filter(is_script) else {
        return Ok(());
    };
    let line = i64::from(level.line);
    let shared = Shared::of(lua);
    let (stepping, called, stops) = with(lua, |d| {
        d.line = line;
        (
            d.stepping,
            d.called,
            d.called || d.breakpoints.contains(&line),
        )
    })
    .unwrap_or_default();
    let is_overdue = counted && !stepping && !stops;
    if is_overdue && shared.with_host(|host| host.is_overdue()) != Some(true) {
        return Ok(());
    }
    if !(stepping || stops || is_overdue) {
        return Ok(());
    }
    let reason = match (stops, called) {
        (true, true) => "redis.breakpoint() called",
        (true, false) => "break point",
        _ if is_overdue => "timeout reached, infinite loop?",
        _ => "step over",
    };
    with(lua, |d| {
        (d.stepping, d.called) = (false, false);
        d.say(format!("* Stopped at {line}, stop reason = {reason}"));
        d.say_line(line);
    });
    send(lua);
    let goes_on = converse(lua)?;
    if !goes_on && is_overdue {
        return Err("timeout during Lua debugging with client closing connection");
    }
    shared.with_host(|host| host.begins_anew());
    Ok(())
}

fn is_script(level: &Level) -> bool {
    memchr::memmem::find(&level.source, SCRIPT).is_some()
}

fn send(lua: Lua) {
    if let Some(log) = with(lua, Debugger::take_log) {
        Shared::of(lua).with_host(|host| host.show(&log));
    }
}

/// Does what is typed until the script is to go on. `false`: nobody is there any more.
fn converse(lua: Lua) -> Result<bool, &'static str> {
    loop {
        let command = with(lua, Debugger::take_command).unwrap_or(Ok(None))?;
        if let Some(argv) = command {
            if obey(lua, &argv)? {
                return Ok(true);
            }
            send(lua);
            continue;
        }
        let typed = Shared::of(lua).with_host(|host| host.typed()).flatten();
        let is_there = typed.is_some();
        with(lua, |d| match typed {
            Some(bytes) => d.input.extend_from_slice(&bytes),
            None => {
                d.stepping = false;
                d.breakpoints.clear();
            }
        });
        if !is_there {
            return Ok(false);
        }
    }
}

/// Does a command. `true`: the script goes on.
fn obey(lua: Lua, argv: &[Vec<u8>]) -> Result<bool, &'static str> {
    let name = argv[0].to_ascii_lowercase();
    match &name[..] {
        b"s" | b"step" | b"n" | b"next" => {
            with(lua, |d| d.stepping = true);
            return Ok(true);
        }
        b"c" | b"continue" => return Ok(true),
        b"a" | b"abort" => return Err("script aborted for user request"),
        b"e" | b"eval" => eval(lua, argv),
        b"r" | b"redis" if argv.len() > 1 => redis(lua, argv),
        b"p" | b"print" => match argv {
            [_, name] => print(lua, name),
            _ => print_all(lua),
        },
        b"t" | b"trace" => trace(lua),
        _ => {
            with(lua, |d| d.obey_plain(&name, argv));
        }
    }
    Ok(false)
}

impl Debugger {
    /// Does a command that has nothing to do with the interpreter.
    fn obey_plain(&mut self, name: &[u8], argv: &[Vec<u8>]) {
        let number = |at: usize| argv.get(at).map(|arg| leading_i64(arg).0);
        match name {
            b"h" | b"help" => HELP.lines().for_each(|line| self.say(line)),
            b"m" | b"maxlen" => self.limit(argv),
            b"b" | b"break" => self.breakpoints(argv),
            b"l" | b"list" => {
                let around = number(1).filter(|&line| line > 0).unwrap_or(self.line);
                self.list(around, number(2).unwrap_or(CONTEXT));
            }
            b"w" | b"whole" => self.list(1, 1_000_000),
            _ => {
                self.say("<error> Unknown Redis Lua debugger command or wrong number of arguments.")
            }
        }
    }
}

/// Says what is on the top, behind a prefix, and takes it off.
fn say_top(lua: Lua, prefix: &[u8]) {
    with(lua, |d| {
        let mut text = prefix.to_vec();
        inspect::value(lua, -1, &mut text);
        d.say_cut(text);
    });
    lua.pop(1);
}

fn say_error(lua: Lua) {
    with(lua, |d| {
        let why = match lua.is_text(-1) {
            true => lua.c_bytes(-1).unwrap_or_default(),
            false => b"(null)",
        };
        d.say([b"<error> ", why].concat());
    });
    lua.pop(1);
}

/// `eval`: runs code, as an expression if it is one, outside the function that has stopped.
fn eval(lua: Lua, argv: &[Vec<u8>]) {
    let code = argv[1..].join(&b' ');
    if !lua.load(&[b"return ", &code[..]].concat(), c"@ldb_eval") {
        lua.pop(1);
        if !lua.load(&code, c"@ldb_eval") {
            return say_error(lua);
        }
    }
    match lua.try_call(0, Some(1), 0) {
        true => say_top(lua, b"<retval> "),
        false => say_error(lua),
    }
}

/// `redis`: runs a command as the script would, and shows it.
fn redis(lua: Lua, argv: &[Vec<u8>]) {
    if !lua.has_room(argv.len() as c_int + 1) {
        with(lua, |d| d.say("<reply> max lua stack reached"));
        return;
    }
    api::push_call(lua);
    for arg in &argv[1..] {
        lua.push_bytes(arg);
    }
    with(lua, |d| d.stepping = true);
    lua.try_call(argv.len() as c_int - 1, Some(1), 0);
    with(lua, |d| d.stepping = false);
    lua.pop(1);
}

/// `print name`: the variable of that name of the nearest function that has one.
fn print(lua: Lua, name: &[u8]) {
    let mut level = 0;
    while lua.level(level).is_some() {
        let mut n = 1;
        while let Some(local) = lua.push_local(level, n) {
            if local == name {
                return say_top(lua, b"<value> ");
            }
            lua.pop(1);
            n += 1;
        }
        level += 1;
    }
    if name == b"KEYS" || name == b"ARGV" {
        lua.push_value(crate::script::lua::GLOBALS);
        lua.push_bytes(name);
        lua.get(-2);
        say_top(lua, b"<value> ");
        lua.pop(1);
    } else {
        with(lua, |d| d.say("No such variable."));
    }
}

/// `print`: all variables of the function that has stopped.
fn print_all(lua: Lua) {
    let (mut n, mut seen) = (1, false);
    while let Some(local) = lua.push_local(0, n) {
        n += 1;
        if memchr::memmem::find(&local, b"(*temporary)").is_some() {
            lua.pop(1);
            continue;
        }
        seen = true;
        say_top(lua, &[b"<value> ", &local[..], b" = "].concat());
    }
    if !seen {
        with(lua, |d| d.say("No local variables in the current context."));
    }
}

/// `trace`: the functions on the way.
fn trace(lua: Lua) {
    let mut at = 0;
    while let Some(level) = lua.level(at) {
        if is_script(&level) {
            let way = if at == 0 { "In " } else { "From " };
            let name = level.name.as_deref().unwrap_or(b"top level");
            with(lua, |d| {
                d.say([way.as_bytes(), name, b":"].concat());
                d.say_line(level.line.into());
            });
        }
        at += 1;
    }
    if at == 0 {
        with(lua, |d| d.say("<error> Can't retrieve Lua stack."));
    }
}

const HELP: &str = "\
Redis Lua debugger help:
[h]elp               Show this help.
[s]tep               Run current line and stop again.
[n]ext               Alias for step.
[c]ontinue           Run till next breakpoint.
[l]ist               List source code around current line.
[l]ist [line]        List source code around [line].
                     line = 0 means: current position.
[l]ist [line] [ctx]  In this form [ctx] specifies how many lines
                     to show before/after [line].
[w]hole              List all source code. Alias for 'list 1 1000000'.
[p]rint              Show all the local variables.
[p]rint <var>        Show the value of the specified variable.
                     Can also show global vars KEYS and ARGV.
[b]reak              Show all breakpoints.
[b]reak <line>       Add a breakpoint to the specified line.
[b]reak -<line>      Remove breakpoint from the specified line.
[b]reak 0            Remove all breakpoints.
[t]race              Show a backtrace.
[e]val <code>        Execute some Lua code (in a different callframe).
[r]edis <cmd>        Execute a Redis command.
[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.
                     Specifying zero as <len> means unlimited.
[a]bort              Stop the execution of the script. In sync
                     mode dataset changes will be retained.

Debugger functions you can call from Lua scripts:
redis.debug()        Produce logs in the debugger console.
redis.breakpoint()   Stop execution like if there was a breakpoint in the
                     next line of code.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_whole_or_not_yet() {
        let whole = b"*2\r\n$1\r\nb\r\n$2\r\n-1\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse_command(&whole[..end]), Ok(None), "{end}");
        }
        let argv = vec![b"b".to_vec(), b"-1".to_vec()];
        assert_eq!(parse_command(whole), Ok(Some(argv)));
        for bad in [
            "x",
            "*0\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n$0\r\n",
            "*1\r\n$1\r\nabc",
        ] {
            assert_eq!(
                parse_command(bad.as_bytes()),
                Err("protocol error"),
                "{bad}"
            );
        }
    }

    #[test]
    fn breakpoints_and_lines() {
        let mut debugger = Debugger::new(b"a\nb\nc\n\n");
        debugger.line = 2;
        for arg in ["2", "2", "9", "x", "-2", "-2"] {
            debugger.breakpoint(arg.as_bytes());
        }
        let lines: Vec<&str> = vec![
            "*8",
            "+   1   a",
            "+->#2   b",
            "+   3   c",
            "+Wrong line number.",
            "+Wrong line number.",
            "+Invalid argument:'x'",
            "+Breakpoint removed.",
            "+No breakpoint in the specified line.",
            "",
        ];
        assert_eq!(
            String::from_utf8(debugger.take_log()).unwrap(),
            lines.join("\r\n")
        );
        debugger.limit(&[b"m".to_vec(), b"61".to_vec()]);
        debugger.say_cut(vec![b'x'; 70]);
        let log = String::from_utf8(debugger.end()).unwrap();
        assert!(
            log.ends_with(&format!("+{} ...\r\n+<endsession>\r\n", "x".repeat(61))),
            "{log}"
        );
    }
}
