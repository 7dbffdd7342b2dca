//! Scripts against a host of two commands, which is all that an interpreter has to know of the server.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

use super::cache::ScriptCache;
use super::host::{Host, NoSuchCommand, Refusal, Turn};
use super::library::{Libraries, Policy};
use super::vm::{Invocation, Purpose, Vm};
use crate::resp::reply::Reply;
use crate::resp::request::append_command;

/// ECHO gives its argument as it is, in bytes of the protocol; nothing else is known.
#[derive(Default)]
struct Echo {
    resp: u8,
    turns_left: Option<u32>,
    /// What is typed to the debugger, a line at a time, and what it has said.
    typed: VecDeque<&'static str>,
    said: String,
}

impl Host for Echo {
    fn call(&mut self, argv: &[&[u8]], reply: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        match argv {
            [b"ECHO", bytes] => {
                reply(bytes);
                Ok(())
            }
            [b"RESP"] => {
                reply(format!(":{}\r\n", self.resp).as_bytes());
                Ok(())
            }
            _ => Err(Cow::Borrowed(b"Unknown")),
        }
    }
    fn set_resp(&mut self, version: u8) {
        self.resp = version;
    }
    fn set_repl(&mut self, _: bool, _: bool) {}
    fn may_run(&mut self, argv: &[&[u8]]) -> Result<bool, NoSuchCommand> {
        match argv[0] {
            b"ECHO" => Ok(true),
            b"RESP" => Ok(false),
            _ => Err(NoSuchCommand),
        }
    }
    fn turn(&mut self) -> Turn {
        match &mut self.turns_left {
            Some(0) => Turn::Ends("enough"),
            Some(left) => {
                *left -= 1;
                Turn::GoesOn
            }
            None => Turn::GoesOn,
        }
    }
    fn typed(&mut self) -> Option<Vec<u8>> {
        let line = self.typed.pop_front()?;
        let mut bytes = Vec::new();
        let words: Vec<&str> = line.split(' ').collect();
        append_command(&words, &mut bytes);
        Some(bytes)
    }
    fn show(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").filter_map(|line| line.strip_prefix('+'));
        lines.for_each(|line| self.said += &format!("{line}\n"));
    }
    fn is_overdue(&mut self) -> bool {
        true
    }
}

struct World {
    vm: Vm,
    cache: ScriptCache,
    host: Echo,
}

impl World {
    fn new() -> World {
        World {
            vm: Vm::new(Purpose::Eval, Rc::default()),
            cache: ScriptCache::new(1),
            host: Echo::default(),
        }
    }

    /// What a script replies, in RESP2 and one line.
    fn eval(&mut self, text: &str) -> String {
        self.run(text, None)
    }

    /// What its debugger says if this is typed, and what it replies.
    fn debug(&mut self, text: &str, typed: &[&'static str]) -> String {
        self.host.typed = typed.iter().copied().collect();
        let reply = self.run(text, Some(text.as_bytes()));
        std::mem::take(&mut self.host.said) + &reply
    }

    fn run(&mut self, text: &str, debugged: Option<&[u8]>) -> String {
        let mut reply = Reply::new();
        match self.cache.get_or_compile(&mut self.vm, text.as_bytes()) {
            Err(fault) => reply.error(fault.as_bytes()),
            Ok(script) => {
                let what = Invocation {
                    function: script.function,
                    name: "it",
                    keys: &[b"k1", b"k2"],
                    args: &[b"a1"],
                    timed: true,
                    debugged,
                };
                match self.vm.run(&what, &mut self.host) {
                    Ok(()) => drop(self.vm.reply(&mut reply, self.host.resp == 3)),
                    Err(failure) => reply.error(failure.text),
                }
            }
        }
        let text = String::from_utf8_lossy(&reply.to_vec()).into_owned();
        text.replace("\r\n", " ").trim_end().to_string()
    }
}

#[test]
fn values_cross_over_both_ways() {
    let mut w = World::new();
    for (script, reply) in [
        ("return 3.99", ":3"),
        (
            "return {1,{'a',nil,'lost'},false,true}",
            "*4 :1 *1 $1 a $-1 :1",
        ),
        ("return {ok='fine'}", "+fine"),
        ("return {err='MY way'}", "-MY way"),
        (
            "return {KEYS[2], ARGV[1], #KEYS, KEYS[3]}",
            "*3 $2 k2 $2 a1 :2",
        ),
        (
            "return redis.call('ECHO', '*2\\r\\n:7\\r\\n$-1\\r\\n')",
            "*2 :7 $-1",
        ),
        ("return redis.call('ECHO', '+PONG\\r\\n').ok", "$4 PONG"),
        (
            "local m = redis.call('ECHO', '%1\\r\\n$1\\r\\na\\r\\n,1.5\\r\\n').map return tostring(m.a.double)",
            "$3 1.5",
        ),
        (
            "return redis.call('ECHO', '~1\\r\\n$1\\r\\na\\r\\n').set.a",
            ":1",
        ),
        (
            "return redis.call('ECHO', '=7\\r\\nmkd:abc\\r\\n').verbatim_string.format",
            "$3 mkd",
        ),
        (
            "return redis.pcall('ECHO', '-NO way\\r\\n').err",
            "$6 NO way",
        ),
        (
            "return redis.call('ECHO', '-NO way\\r\\n')",
            "-NO way script: it, on @user_script:1.",
        ),
        (
            "return redis.call('nope')",
            "-ERR Unknown script: it, on @user_script:1.",
        ),
        ("redis.setresp(3) return redis.call('RESP')", ":3"),
        // The length of a table with holes is what it is in Redis.
        (
            "return {#redis.call('ECHO', '*2\\r\\n_\\r\\n:7\\r\\n'), #redis.call('ECHO', '*3\\r\\n:7\\r\\n_\\r\\n_\\r\\n')}",
            "*2 :0 :1",
        ),
    ] {
        assert_eq!(w.eval(script), reply, "{script}");
    }
}

#[test]
fn nobody_changes_the_globals() {
    let mut w = World::new();
    let readonly =
        "-ERR user_script:1: Attempt to modify a readonly table script: it, on @user_script:1.";
    let from_within = "-ERR Attempt to modify a readonly table script: it, on @user_script:1.";
    for (script, reply) in [
        ("x = 1", readonly),
        ("redis.call = 1", readonly),
        ("getmetatable('').__index.upper = 1", readonly),
        ("getmetatable(_G).__index = 1", readonly),
        ("rawset(_G, 'x', 1)", from_within),
        ("setmetatable(redis, {})", from_within),
        ("table.insert(cjson, 1)", from_within),
        (
            "return x",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'x' script: it, on @user_script:1.",
        ),
        (
            "return {('up'):upper(), type(next(redis)), rawget(redis, 'LOG_WARNING')}",
            "*3 $2 UP $6 string :3",
        ),
        (
            "local n = 0 for _ in pairs(bit) do n = n + 1 end return n",
            ":12",
        ),
        ("return getmetatable(redis)", "$-1"),
        ("return _G._G == _G and getfenv() == _G", ":1"),
        (
            "return print",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'print' script: it, on @user_script:1.",
        ),
    ] {
        assert_eq!(w.eval(script), reply, "{script}");
    }
}

#[test]
fn what_would_break_the_interpreter_is_refused() {
    // As much stack as the loop's thread has.
    let thread = std::thread::Builder::new().stack_size(8 << 20);
    let run = thread.spawn(refuse_what_would_break_it).unwrap();
    run.join().unwrap();
}

fn refuse_what_would_break_it() {
    let mut w = World::new();
    let begins = |w: &mut World, script: &str, with: &str| {
        let reply = w.eval(script);
        assert!(reply.starts_with(with), "{script}: {reply}");
    };
    begins(
        &mut w,
        "return loadstring(string.dump(function() end))()",
        "-ERR user_script:1: attempt to call a nil value",
    );
    begins(
        &mut w,
        "return unpack({}, 0, 2^31-1)",
        "-ERR user_script:1: too many results to unpack",
    );
    begins(
        &mut w,
        "return unpack({}, -2^31, 2^31-1)",
        "-ERR user_script:1: too many results to unpack",
    );
    begins(&mut w, "local t = {} t[1] = t return t", "*1 *1 *1");
    begins(
        &mut w,
        "local function f() return 1 + f() end return f()",
        "-ERR user_script:1: stack overflow",
    );
    begins(
        &mut w,
        "return cjson.decode(string.rep('[', 1001))",
        "-ERR user_script:1: Found too many nested data structures (1001)",
    );
    begins(&mut w, "error(nil)", "-ERR nil");
    begins(&mut w, "error({})", "-(null)");
    assert_eq!(w.eval("return 1"), ":1");
}

#[test]
fn a_script_that_is_to_end_cannot_go_on_by_catching_the_error() {
    let mut w = World::new();
    w.host.turns_left = Some(2);
    let reply = w.eval("while true do pcall(function() while true do end end) end");
    assert_eq!(reply, "-ERR enough script: it, on @user_script:1.");
    w.host.turns_left = None;
    assert_eq!(w.eval("return 2"), ":2");
}

#[test]
fn chance_is_the_same_everywhere() {
    let mut w = World::new();
    let first = w.eval("math.randomseed(7) return {math.random(1000), math.random(1000)}");
    assert_eq!(
        w.eval("math.randomseed(7) return {math.random(1000), math.random(1000)}"),
        first
    );
    // What drand48(3) gives after srand48(42).
    assert_eq!(
        w.eval("math.randomseed(42) return math.random(1000000)"),
        ":744526"
    );
}

#[test]
fn values_survive_json_and_messagepack() {
    let mut w = World::new();
    let value = "{1,2,{a='x',b={true,false}},3.25,'\\0\\255'}";
    for (pack, unpack) in [
        ("cjson.encode", "cjson.decode"),
        ("cmsgpack.pack", "cmsgpack.unpack"),
    ] {
        let script = format!(
            "local v = {unpack}({pack}({value})) return {{v[1], v[3].a, v[3].b[1], tostring(v[4]), #v[5], #v}}"
        );
        let reply = w.eval(&script);
        assert!(
            reply.starts_with("*6 :1 $1 x :1 $4 3.25 :"),
            "{pack}: {reply}"
        );
        assert!(reply.ends_with(":5"), "{pack}: {reply}");
    }
    assert_eq!(
        w.eval("return cmsgpack.unpack('\\146\\1')"),
        "-ERR user_script:1: Missing bytes in input. script: it, on @user_script:1."
    );
}

#[test]
fn libraries_are_added_whole_or_not_at_all() {
    let mut vm = Vm::new(Purpose::Functions, Rc::default());
    let mut libraries = Libraries::default();
    let mut host = Echo::default();
    let text = |name: &str, functions: &str| {
        let each = functions
            .split(' ')
            .map(|f| format!("redis.register_function('{f}', function() return '{name}' end)\n"));
        format!("#!lua name={name}\n{}", each.collect::<String>())
    };
    let mut load = |libraries: &mut Libraries, vm: &mut Vm, text: &str, replace| {
        let loaded = libraries.load(vm, &mut host, text.as_bytes(), replace);
        loaded
            .map(|_| ())
            .map_err(|why| String::from_utf8(why).unwrap())
    };
    assert_eq!(
        load(&mut libraries, &mut vm, &text("a", "f1 f2"), false),
        Ok(())
    );
    let error = |why: &str| Err(why.to_string());
    assert_eq!(
        load(&mut libraries, &mut vm, &text("a", "f3"), false),
        error("Library 'a' already exists")
    );
    assert_eq!(
        load(&mut libraries, &mut vm, &text("b", "F1 f4"), false),
        error("Function F1 already exists")
    );
    assert!(libraries.function(b"f4").is_none());
    assert_eq!(
        load(&mut libraries, &mut vm, &text("a", "f1 f3"), true),
        Ok(())
    );
    assert!(libraries.function(b"f2").is_none() && libraries.function(b"F3").is_some());
    assert!(
        load(
            &mut libraries,
            &mut vm,
            "#!lua name=c\nredis.call('x')",
            false
        )
        .is_err()
    );
    let mut others = Libraries::default();
    load(&mut others, &mut vm, &text("d", "f1"), false).unwrap();
    assert!(libraries.join(&mut vm, others, Policy::Append).is_err());
    let mut others = Libraries::default();
    load(&mut others, &mut vm, &text("a", "f9"), false).unwrap();
    libraries.join(&mut vm, others, Policy::Replace).unwrap();
    assert_eq!((libraries.len(), libraries.functions()), (1, 1));
    assert!(libraries.function(b"f9").is_some());
}

const DEBUGGED: &str = "\
local function twice(n)
  local two = n * 2
  return two
end
local list = {1, 'b', {x = false}}
redis.debug(list, nil)
redis.breakpoint()
local v = redis.call('ECHO', '*2\\r\\n:7\\r\\n$-1\\r\\n')
local r = twice(v[1])
return r
";

#[test]
fn a_debugger_stops_and_shows() {
    let mut w = World::new();
    let said = w.debug(
        DEBUGGED,
        &[
            "s", "p", "b 3", "c", "s", "s", "p v", "p KEYS", "p none", "c", "t", "p two", "p list",
            "c",
        ],
    );
    let wanted = "\
* Stopped at 4, stop reason = step over
-> 4   end
* Stopped at 5, stop reason = step over
-> 5   local list = {1, 'b', {x = false}}
<value> twice = F
   2     local two = n * 2
  #3     return two
   4   end
<debug> line 6: {1; \"b\"; {[\"x\"]=false}}, nil
* Stopped at 8, stop reason = redis.breakpoint() called
-> 8   local v = redis.call('ECHO', '*2\\r\\n:7\\r\\n$-1\\r\\n')
<redis> ECHO *2  :7  $-1  
<reply> [7,NULL]
* Stopped at 9, stop reason = step over
-> 9   local r = twice(v[1])
* Stopped at 2, stop reason = step over
-> 2     local two = n * 2
<value> {7; false}
<value> {\"k1\"; \"k2\"}
No such variable.
* Stopped at 3, stop reason = break point
->#3     return two
In twice:
->#3     return two
From top level:
   9   local r = twice(v[1])
<value> 14
<value> {1; \"b\"; {[\"x\"]=false}}
<endsession>
:14";
    let said: Vec<&str> = said.lines().collect();
    let said: Vec<&str> = said
        .into_iter()
        .map(
            |line| match line.starts_with("<value> twice = \"function@") {
                true => "<value> twice = F",
                false => line,
            },
        )
        .collect();
    assert_eq!(said.join("\n"), wanted);
}

#[test]
fn a_debugger_runs_what_is_typed() {
    let mut w = World::new();
    let said = w.debug(
        "local x = 1\nreturn x",
        &[
            "e 1+1",
            "e error('no')",
            "e )",
            "e redis.call('ECHO', '+in\\r\\n')",
            "r ECHO :5\r\n",
            "r nope",
            "nothing",
            "m 60",
            "e string.rep('y', 99)",
            "a",
        ],
    );
    let wanted = format!(
        "* Stopped at 1, stop reason = step over\n-> 1   local x = 1\n<retval> 2\n<error> ldb_eval:1: no\n\
         <error> ldb_eval:1: unexpected symbol near ')'\n<retval> {{[\"ok\"]=\"in\"}}\n<redis> ECHO :5  \n<reply> 5\n\
         <redis> nope\n<error> Unknown\n\
         <error> Unknown Redis Lua debugger command or wrong number of arguments.\n\
         <value> replies are truncated at 60 bytes.\n<retval> \"{} ...\n<endsession>\n\
         -ERR script aborted for user request script: it, on @user_script:1.",
        "y".repeat(50)
    );
    assert_eq!(said, wanted);
    // Nobody is there any more: the script runs on, unless it would do so for ever.
    let said = w.debug("local x = 1\nlocal y = 2\nreturn x + y", &["b 2"]);
    assert!(
        said.ends_with("<endsession>\n:3") && !said.contains("Stopped at 2"),
        "{said}"
    );
    let said = w.debug("local x = 1\nwhile true do end", &["c"]);
    assert!(
        said.contains("reason = timeout reached, infinite loop?"),
        "{said}"
    );
    assert!(
        said.contains("-ERR timeout during Lua debugging with client closing connection"),
        "{said}"
    );
    // Outside a session there is none.
    assert_eq!(w.eval("redis.debug(1) return redis.breakpoint()"), "$-1");
}
