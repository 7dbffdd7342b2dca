//! Scripts against a host of two commands, which is all that an interpreter has to know of the server.

use std::borrow::Cow;
use std::rc::Rc;

use super::cache::ScriptCache;
use super::host::{Host, NoSuchCommand, Refusal, Turn};
use super::library::{Libraries, Policy};
use super::vm::{Invocation, Purpose, Vm};
use crate::resp::reply::Reply;

/// ECHO gives its argument as it is, in bytes of the protocol; nothing else is known.
#[derive(Default)]
struct Echo {
    resp: u8,
    turns_left: Option<u32>,
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
                    debugged: None,
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
