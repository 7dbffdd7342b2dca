//! An interpreter and what it runs.
//!
//! There are two, one for EVAL's scripts and one for functions, each made when first needed. While one runs it is lent the
//! server, as a [`Host`], through one cell: what scripts call takes it out of there and puts it back when it returns, so
//! that nobody ever has it twice.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::resp::reply::Reply;
use crate::script::convert::Writer;
use crate::script::debugger::{self, Debugger};
use crate::script::dice::Dice;
use crate::script::error::{self, Told};
use crate::script::host::{Host, Turn};
use crate::script::library::Registering;
use crate::script::lua::{DebugInfo, GLOBALS, Library, Lua, State};
use crate::script::{api, bit, cjson, cmsgpack, sandbox, structs};

/// Instructions between two looks at the clock.
const INSTRUCTIONS_PER_TURN: c_int = 100_000;
/// Runs between two steps of the collector, and how large these are.
const RUNS_PER_STEP: u32 = 50;

/// Whom an interpreter serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Eval,
    Functions,
}

/// What functions of ours find that an interpreter calls.
pub struct Shared {
    host: Cell<Option<NonNull<dyn Host>>>,
    pub dice: Rc<Dice>,
    /// The library whose code is running to register its functions.
    pub registering: RefCell<Option<Registering>>,
    /// The script that is running is debugged.
    pub debugger: RefCell<Option<Debugger>>,
}

/// Where the registry has the pointer to [`Shared`].
const SHARED: c_int = 1;

impl Shared {
    /// That of a running interpreter.
    pub fn of<'a>(lua: Lua) -> &'a Shared {
        lua.push_kept(SHARED);
        let shared = lua.user_pointer(-1).cast::<Shared>();
        lua.pop(1);
        // SAFETY: `Vm::new` put it there; it lives as long as the interpreter, which is running.
        unsafe { &*shared }
    }

    /// Hands out the server, if it has been lent and nobody has it already.
    pub fn with_host<T>(&self, f: impl FnOnce(&mut dyn Host) -> T) -> Option<T> {
        let mut host = self.host.take()?;
        // SAFETY: `lent` put it there and waits for the script to end; it was taken out of the cell, so nobody else has it.
        let result = f(unsafe { host.as_mut() });
        self.host.set(Some(host));
        Some(result)
    }

    /// Lends the server while `f` runs.
    fn lent<T>(&self, host: &mut dyn Host, f: impl FnOnce() -> T) -> T {
        let host = NonNull::from(host);
        // SAFETY: only the lifetime changes, and the cell is empty again before it ends.
        let host =
            unsafe { std::mem::transmute::<NonNull<dyn Host + '_>, NonNull<dyn Host>>(host) };
        self.host.set(Some(host));
        let result = f();
        self.host.set(None);
        result
    }
}

/// What to run.
pub struct Invocation<'a> {
    /// A function that was kept.
    pub function: c_int,
    /// How errors call it.
    pub name: &'a str,
    pub keys: &'a [&'a [u8]],
    pub args: &'a [&'a [u8]],
    /// To look at the clock on the way.
    pub timed: bool,
    /// The script's text, if it is to be debugged.
    pub debugged: Option<&'a [u8]>,
}

/// Why a script ended without a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub text: Vec<u8>,
    /// It was counted when a command replied it.
    pub counted: bool,
}

/// See the head of the file.
pub struct Vm {
    lua: Lua,
    shared: Box<Shared>,
    purpose: Purpose,
    handler: c_int,
    /// The globals behind those that scripts see.
    globals: c_int,
    /// What is shown instead of them while a library is loaded.
    loading_globals: c_int,
    runs: u32,
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.lua.close();
    }
}

impl Vm {
    pub fn new(purpose: Purpose, dice: Rc<Dice>) -> Vm {
        let lua = Lua::open();
        let shared = Box::new(Shared {
            host: Cell::new(None),
            dice,
            registering: RefCell::new(None),
            debugger: RefCell::new(None),
        });
        lua.push_pointer((&raw const *shared).cast_mut().cast());
        let place = lua.keep();
        assert_eq!(place, SHARED, "the registry's first place");
        for library in [
            Library::Base,
            Library::Table,
            Library::String,
            Library::Math,
        ] {
            lua.open_library(library);
        }
        for (name, push) in [
            ("cjson", cjson::push as fn(Lua)),
            ("cmsgpack", cmsgpack::push),
            ("struct", structs::push),
            ("bit", bit::push),
        ] {
            push(lua);
            lua.raw_set_field(GLOBALS, name);
        }
        api::push(lua, purpose == Purpose::Eval);
        lua.raw_set_field(GLOBALS, "redis");
        lua.raw_field(GLOBALS, "math");
        api::replace_random(lua);
        lua.pop(1);
        lua.push_fn(error::handler);
        if purpose == Purpose::Eval {
            // Scripts can see it.
            lua.push_value(-1);
            lua.raw_set_field(GLOBALS, "__redis__err__handler");
        }
        let handler = lua.keep();
        sandbox::wrap_functions(lua);
        sandbox::lock_globals(lua);
        let globals = lua.keep();
        lua.new_table(0, 1);
        api::push_for_loading(lua);
        sandbox::refuse_absent(lua);
        sandbox::lock(lua);
        lua.raw_set_field(-2, "redis");
        sandbox::refuse_absent(lua);
        let loading_globals = lua.keep();
        lua.set_top(0);
        Vm {
            lua,
            shared,
            purpose,
            handler,
            globals,
            loading_globals,
            runs: 0,
        }
    }

    /// Bytes that it uses.
    pub fn memory(&self) -> usize {
        self.lua.memory()
    }

    /// Compiles a chunk and keeps its function; or the text of the error.
    pub fn compile(&mut self, source: &[u8], name: &CStr) -> Result<c_int, Vec<u8>> {
        let lua = self.lua;
        if lua.load(source, name) {
            return Ok(lua.keep());
        }
        let text = lua.c_bytes(-1).unwrap_or_default().to_vec();
        lua.pop(1);
        Err(text)
    }

    /// Lets go of a function that was kept.
    pub fn forget(&mut self, function: c_int) {
        self.lua.forget(function);
    }

    fn push_list(&self, items: &[&[u8]]) {
        self.lua.new_table(items.len(), 0);
        for (n, item) in items.iter().enumerate() {
            self.lua.push_bytes(item);
            self.lua.raw_set_item(-2, n + 1);
        }
    }

    /// Runs a function. What it returned waits for [`Vm::reply`].
    pub fn run(&mut self, what: &Invocation<'_>, host: &mut dyn Host) -> Result<(), Failure> {
        let lua = self.lua;
        if let Some(source) = what.debugged {
            *self.shared.debugger.borrow_mut() = Some(Debugger::new(source));
            lua.set_hook(debugger::hook, INSTRUCTIONS_PER_TURN, true);
        } else if what.timed {
            lua.set_hook(count_hook, INSTRUCTIONS_PER_TURN, false);
        }
        lua.push_kept(self.handler);
        lua.push_kept(what.function);
        let args = match self.purpose {
            Purpose::Eval => {
                lua.push_kept(self.globals);
                self.push_list(what.keys);
                lua.raw_set_field(-2, "KEYS");
                self.push_list(what.args);
                lua.raw_set_field(-2, "ARGV");
                lua.pop(1);
                0
            }
            Purpose::Functions => {
                self.push_list(what.keys);
                self.push_list(what.args);
                2
            }
        };
        let done = self.shared.lent(host, || lua.try_call(args, Some(1), 1));
        if what.timed || what.debugged.is_some() {
            lua.unset_hook();
        }
        if let Some(mut debugger) = self.shared.debugger.take() {
            host.show(&debugger.end());
        }
        self.runs += 1;
        if self.runs.is_multiple_of(RUNS_PER_STEP) {
            lua.collect_some(RUNS_PER_STEP as c_int);
        }
        if done {
            return Ok(());
        }
        let failure = self.failure(what.name);
        lua.set_top(0);
        Err(failure)
    }

    /// What the error on the top says of a script of this name.
    fn failure(&self, name: &str) -> Failure {
        let lua = self.lua;
        if !lua.is_table(-1) {
            let why = match lua.is_text(-1) {
                true => lua.c_bytes(-1).unwrap_or_default(),
                false => b"execution failure",
            };
            let why = &why[..why.len().min(100)];
            let text = [b"ERR Error running script ", name.as_bytes(), b", ", why].concat();
            return Failure {
                text,
                counted: false,
            };
        }
        let Told {
            mut text,
            place,
            counted,
        } = error::read(lua);
        if let Some((source, line)) = place {
            text.extend_from_slice(format!(" script: {name}, on ").as_bytes());
            text.extend_from_slice(&source);
            text.push(b':');
            text.extend_from_slice(&line);
            text.push(b'.');
        }
        Failure { text, counted }
    }

    /// Replies what the last run returned. The errors in it that are still to be counted, and how many others there are.
    pub fn reply(&mut self, reply: &mut Reply, resp3: bool) -> (Vec<Vec<u8>>, u64) {
        let mut writer = Writer {
            lua: self.lua,
            reply,
            resp3,
            errors: Vec::new(),
            counted: 0,
        };
        writer.value();
        let told = (writer.errors, writer.counted);
        self.lua.set_top(0);
        told
    }

    /// Runs the code of a library, which registers its functions; or the text of the error.
    pub fn register(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Registering, Vec<u8>> {
        let lua = self.lua;
        self.show_globals(self.loading_globals);
        let result = self.run_registering(code, host);
        self.show_globals(self.globals);
        lua.set_top(0);
        result
    }

    fn show_globals(&self, which: c_int) {
        self.lua.push_value(GLOBALS);
        let at = self.lua.top();
        self.lua.push_kept(which);
        sandbox::show_instead(self.lua, at);
        self.lua.pop(1);
    }

    fn run_registering(
        &mut self,
        code: &[u8],
        host: &mut dyn Host,
    ) -> Result<Registering, Vec<u8>> {
        let lua = self.lua;
        if !lua.load(code, c"@user_function") {
            let why = lua.c_bytes(-1).unwrap_or_default();
            return Err([b"Error compiling function: ", why].concat());
        }
        *self.shared.registering.borrow_mut() = Some(Registering::default());
        lua.set_hook(count_hook, INSTRUCTIONS_PER_TURN, false);
        let done = self.shared.lent(host, || lua.try_call(0, Some(0), 0));
        lua.unset_hook();
        let registered = self.shared.registering.take().unwrap_or_default();
        if done {
            return Ok(registered);
        }
        for function in registered.functions {
            lua.forget(function.callback);
        }
        let why = error::read(lua).text;
        Err([b"Error registering functions: ", &why[..]].concat())
    }
}

/// After so many instructions the server sees to others, and may end the script.
unsafe extern "C-unwind" fn count_hook(state: *mut State, _: *mut DebugInfo) {
    let lua = Lua::of(state);
    if let Some(Turn::Ends(why)) = Shared::of(lua).with_host(|host| host.turn()) {
        // From now on it is asked at every line, so that a script which catches the error gets no further.
        lua.set_hook(count_hook, 0, true);
        error::push(lua, why.as_bytes());
        lua.raise_now();
    }
}
