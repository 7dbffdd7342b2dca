//! A thin layer over Lua's C interface: a stack of values, as in the Lua manual, in words of Rust.
//!
//! The crate `mlua` would keep Lua's values behind handles of its own, each call of a script then costs several
//! allocations, and it decides by itself what an error is. Scripts are the server's hot path and their errors have to be
//! Redis's to the byte, so this talks to the interpreter itself (`mlua-sys` builds it and declares its functions).
//!
//! Lua raises an error by a long jump over whatever is on the C stack. So there are two rules. A function that Lua calls
//! is a [`Body`], which never raises: it says [`Raise`] and returns, and what it owned is dropped before [`enter`] jumps.
//! And what may raise on the way ([`Lua::call`], [`Lua::next`], [`Lua::check_arg_int`] ...) is called only while nothing
//! is owned that would have to be dropped. Lack of memory raises nothing: as everywhere in the process, it ends it.
//!
//! A slice of a Lua string ([`Lua::bytes`]) is good as long as its value stays on the stack.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ffi::{CStr, c_int, c_void};

use mlua_sys as ffi;

pub use ffi::{lua_Debug as DebugInfo, lua_State as State};

/// What Lua aligns for.
const ALIGN: usize = 16;

/// Types of values, as `lua_type` gives them.
pub mod kind {
    use std::ffi::c_int;

    pub const NONE: c_int = -1;
    pub const NIL: c_int = 0;
    pub const BOOLEAN: c_int = 1;
    pub const LIGHT_USERDATA: c_int = 2;
    pub const NUMBER: c_int = 3;
    pub const STRING: c_int = 4;
    pub const TABLE: c_int = 5;
    pub const FUNCTION: c_int = 6;
}

/// The index of the registry, and of the table of globals.
pub const REGISTRY: c_int = ffi::LUA_REGISTRYINDEX;
pub const GLOBALS: c_int = ffi::LUA_GLOBALSINDEX;

/// The index of a running function's `n`th upvalue. The first is the function itself, see [`Lua::push_fn`].
pub const fn upvalue(n: c_int) -> c_int {
    ffi::lua_upvalueindex(n)
}

/// The value on the top of the stack is an error, to be raised by whoever called.
#[derive(Debug)]
#[must_use]
pub struct Raise;

/// A function for Lua: its arguments are on the stack, and so are its results, of which it gives the number.
pub type Body = fn(Lua) -> Result<c_int, Raise>;

/// A running interpreter's stack. See the head of the file.
#[derive(Clone, Copy)]
pub struct Lua(*mut State);

/// Calls a function of Lua's.
macro_rules! api {
    ($name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: a `Lua` exists only while its interpreter does (`Vm` owns it, and hands it out for a call); indices
        // name what the caller has put on the stack, as the head of the file demands.
        unsafe { ffi::$name($($arg),*) }
    };
}

impl Lua {
    /// A new interpreter, to be ended by [`Lua::close`].
    pub fn open() -> Lua {
        let state = api!(lua_newstate(allocate, std::ptr::null_mut()));
        assert!(!state.is_null(), "no memory for an interpreter");
        Lua(state)
    }

    /// The stack that a hook was called with.
    pub fn of(state: *mut State) -> Lua {
        Lua(state)
    }

    /// Ends the interpreter: nobody may have a copy of this any more.
    pub fn close(self) {
        api!(lua_close(self.0));
    }

    pub fn top(self) -> c_int {
        api!(lua_gettop(self.0))
    }

    pub fn set_top(self, at: c_int) {
        api!(lua_settop(self.0, at));
    }

    pub fn pop(self, n: c_int) {
        self.set_top(-n - 1);
    }

    /// Puts a copy of a value on the top.
    pub fn push_value(self, at: c_int) {
        api!(lua_pushvalue(self.0, at));
    }

    pub fn remove(self, at: c_int) {
        api!(lua_remove(self.0, at));
    }

    /// Moves the top to a place below.
    pub fn insert(self, at: c_int) {
        api!(lua_insert(self.0, at));
    }

    /// Takes the top off and puts it in place of another.
    pub fn replace(self, at: c_int) {
        api!(lua_replace(self.0, at));
    }

    /// Makes room for `n` more values; false if there is none, for the stack has a limit.
    pub fn has_room(self, n: c_int) -> bool {
        api!(lua_checkstack(self.0, n)) != 0
    }

    /// One of [`kind`].
    pub fn kind(self, at: c_int) -> c_int {
        api!(lua_type(self.0, at))
    }

    pub fn is_table(self, at: c_int) -> bool {
        self.kind(at) == kind::TABLE
    }

    /// True of a string, and of a number, which is one when needed.
    pub fn is_text(self, at: c_int) -> bool {
        matches!(self.kind(at), kind::STRING | kind::NUMBER)
    }

    pub fn is_none_or_nil(self, at: c_int) -> bool {
        self.kind(at) <= kind::NIL
    }

    pub fn is_native(self, at: c_int) -> bool {
        api!(lua_iscfunction(self.0, at)) != 0
    }

    /// The value as a number; 0 if it is none.
    pub fn number(self, at: c_int) -> f64 {
        api!(lua_tonumber(self.0, at))
    }

    /// The value as a number, if it is one or a text of one.
    pub fn as_number(self, at: c_int) -> Option<f64> {
        (api!(lua_isnumber(self.0, at)) != 0).then(|| self.number(at))
    }

    pub fn boolean(self, at: c_int) -> bool {
        api!(lua_toboolean(self.0, at)) != 0
    }

    /// The bytes of a string. A number becomes a string in its place.
    pub fn bytes<'a>(self, at: c_int) -> Option<&'a [u8]> {
        let mut len = 0;
        let start = api!(lua_tolstring(self.0, at, &mut len));
        if start.is_null() {
            return None;
        }
        // SAFETY: Lua gave the place and the length of a string, which lives while it is on the stack (head of the file).
        Some(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }

    /// The bytes of a string up to a zero, as C reads it.
    pub fn c_bytes<'a>(self, at: c_int) -> Option<&'a [u8]> {
        self.bytes(at).map(until_zero)
    }

    /// The length of a string or a table.
    pub fn len(self, at: c_int) -> usize {
        api!(lua_objlen(self.0, at))
    }

    /// Where a table, function or the like is: its identity.
    pub fn address(self, at: c_int) -> *const c_void {
        api!(lua_topointer(self.0, at))
    }

    pub fn user_pointer(self, at: c_int) -> *mut c_void {
        api!(lua_touserdata(self.0, at))
    }

    pub fn raw_equal(self, a: c_int, b: c_int) -> bool {
        api!(lua_rawequal(self.0, a, b)) != 0
    }

    /// The name of the type of a value.
    pub fn type_name(self, at: c_int) -> &'static str {
        let name = api!(lua_typename(self.0, self.kind(at)));
        // SAFETY: Lua's type names are literals, ASCII with a zero at the end.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_str().unwrap_or_default()
    }

    pub fn push_nil(self) {
        api!(lua_pushnil(self.0));
    }

    pub fn push_number(self, n: f64) {
        api!(lua_pushnumber(self.0, n));
    }

    pub fn push_boolean(self, yes: bool) {
        api!(lua_pushboolean(self.0, c_int::from(yes)));
    }

    pub fn push_bytes(self, bytes: &[u8]) {
        api!(lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()));
    }

    #[allow(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "Lua keeps the address and never looks there"
    )]
    pub fn push_pointer(self, pointer: *mut c_void) {
        api!(lua_pushlightuserdata(self.0, pointer));
    }

    /// Puts memory on the top that belongs to the interpreter, with a value in it that needs no dropping.
    pub fn push_plain<T: Copy>(self, value: T) {
        let place = api!(lua_newuserdata(self.0, size_of::<T>())).cast::<T>();
        // SAFETY: Lua has made room for it, aligned for all plain types.
        unsafe { place.write(value) };
    }

    /// A copy of what [`Lua::push_plain`] put at a place.
    ///
    /// The caller knows that there is a `T`: only functions whose upvalue it is have it.
    pub fn plain<T: Copy>(self, at: c_int) -> T {
        // SAFETY: the caller's promise.
        unsafe { self.user_pointer(at).cast::<T>().read() }
    }

    /// Changes what [`Lua::push_plain`] put at a place, with the same promise.
    pub fn set_plain<T: Copy>(self, at: c_int, value: T) {
        // SAFETY: the caller's promise.
        unsafe { self.user_pointer(at).cast::<T>().write(value) };
    }

    /// Puts a function on the top.
    pub fn push_fn(self, body: Body) {
        self.push_closure(body, 0);
    }

    /// Puts a function on the top that has the `n` values above as its upvalues 2 and on.
    pub fn push_closure(self, body: Body, n: c_int) {
        self.push_pointer(body as *mut c_void);
        self.insert(-n - 1);
        api!(lua_pushcclosure(self.0, enter, n + 1));
    }

    pub fn new_table(self, items: usize, fields: usize) {
        let size = |n: usize| c_int::try_from(n).unwrap_or(0);
        api!(lua_createtable(self.0, size(items), size(fields)));
    }

    /// Replaces the key on the top by what the table has for it, asking no metatable.
    pub fn raw_get(self, table: c_int) {
        api!(lua_rawget_(self.0, table));
    }

    /// Puts the table's item number `n` on the top.
    pub fn raw_item(self, table: c_int, n: usize) {
        api!(lua_rawgeti_(
            self.0,
            table,
            c_int::try_from(n).unwrap_or(c_int::MAX)
        ));
    }

    /// The same for any integer.
    pub fn raw_int(self, table: c_int, n: c_int) {
        api!(lua_rawgeti_(self.0, table, n));
    }

    /// Puts a field of the table on the top.
    pub fn raw_field(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push_bytes(name.as_bytes());
        self.raw_get(table);
    }

    /// Takes a value and the key below it off and puts them into the table.
    pub fn raw_set(self, table: c_int) {
        api!(lua_rawset(self.0, table));
    }

    /// Takes the top off and makes it the table's item number `n`.
    pub fn raw_set_item(self, table: c_int, n: usize) {
        api!(lua_rawseti_(
            self.0,
            table,
            c_int::try_from(n).unwrap_or(c_int::MAX)
        ));
    }

    /// Takes the top off and makes it a field of the table.
    pub fn raw_set_field(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        self.raw_set(table);
    }

    /// Like indexing in Lua: replaces the key on the top. May raise.
    pub fn get(self, table: c_int) {
        api!(lua_gettable_(self.0, table));
    }

    /// Replaces the key on the top by the next key and its value, or by nothing and says false. May raise.
    pub fn next(self, table: c_int) -> bool {
        api!(lua_next(self.0, table)) != 0
    }

    /// Puts the metatable of a value on the top, if it has one.
    pub fn metatable(self, at: c_int) -> bool {
        api!(lua_getmetatable(self.0, at)) != 0
    }

    /// Takes a table or nil off and makes it the metatable of a value.
    pub fn set_metatable(self, at: c_int) {
        api!(lua_setmetatable(self.0, at));
    }

    /// Keeps the top in the registry and takes it off; see [`Lua::push_kept`].
    pub fn keep(self) -> c_int {
        api!(luaL_ref(self.0, REGISTRY))
    }

    pub fn push_kept(self, place: c_int) {
        api!(lua_rawgeti_(self.0, REGISTRY, place));
    }

    pub fn forget(self, place: c_int) {
        api!(luaL_unref(self.0, REGISTRY, place));
    }

    /// Calls a function with its `args` on the top; `None` for `results` leaves all that there are. May raise.
    pub fn call(self, args: c_int, results: Option<c_int>) {
        let results = results.unwrap_or(ffi::LUA_MULTRET);
        api!(lua_call(self.0, args, results));
    }

    /// The same, and an error stays on the top instead; false if there was one. `handler` is the place of a function
    /// that sees it first, or 0.
    pub fn try_call(self, args: c_int, results: Option<c_int>, handler: c_int) -> bool {
        let results = results.unwrap_or(ffi::LUA_MULTRET);
        api!(lua_pcall(self.0, args, results, handler)) == ffi::LUA_OK
    }

    /// Compiles a chunk and puts its function on the top; false if it has put an error there. Only source is taken: what
    /// looks like compiled code is read as the text that it is not.
    pub fn load(self, source: &[u8], name: &CStr) -> bool {
        if is_bytecode(source) {
            return self.load(&[b" ", source].concat(), name);
        }
        let start = source.as_ptr().cast();
        api!(luaL_loadbuffer(self.0, start, source.len(), name.as_ptr())) == ffi::LUA_OK
    }

    /// Opens a library of Lua's own.
    pub fn open_library(self, library: Library) {
        let (open, name): (ffi::lua_CFunction, &CStr) = match library {
            Library::Base => (ffi::luaopen_base, c""),
            Library::Table => (ffi::luaopen_table, c"table"),
            Library::String => (ffi::luaopen_string, c"string"),
            Library::Math => (ffi::luaopen_math, c"math"),
        };
        api!(lua_pushcclosure(self.0, open, 0));
        self.push_bytes(name.to_bytes());
        self.call(1, Some(0));
    }

    /// The error of a text, as `error(text, 0)` would raise it.
    pub fn raise(self, text: impl AsRef<[u8]>) -> Raise {
        self.push_bytes(text.as_ref());
        Raise
    }

    /// The error of a text, with the place in the script in front of which it came up.
    pub fn raise_here(self, text: impl AsRef<[u8]>) -> Raise {
        api!(luaL_where(self.0, 1));
        let place = self.bytes(-1).unwrap_or_default();
        let text = [place, text.as_ref()].concat();
        self.pop(1);
        self.raise(text)
    }

    /// The error that argument `n` is no good. Raises.
    pub fn bad_arg(self, n: c_int, why: &CStr) -> Raise {
        api!(luaL_argerror(self.0, n, why.as_ptr()));
        Raise
    }

    /// Argument `n` as a number. May raise.
    pub fn check_number(self, n: c_int) -> f64 {
        api!(luaL_checknumber(self.0, n))
    }

    /// Argument `n` as an integer. May raise.
    pub fn check_integer(self, n: c_int) -> i64 {
        api!(luaL_checkinteger(self.0, n))
    }

    /// Argument `n` as a C `int`. May raise.
    pub fn check_int(self, n: c_int) -> i32 {
        self.check_integer(n) as i32
    }

    /// Argument `n` as a string. May raise.
    pub fn check_bytes<'a>(self, n: c_int) -> &'a [u8] {
        let mut len = 0;
        let start = api!(luaL_checklstring(self.0, n, &mut len));
        // SAFETY: as in `bytes`; Lua has raised if it is no string.
        unsafe { std::slice::from_raw_parts(start.cast(), len) }
    }

    /// Argument `n` as a table. May raise.
    pub fn check_table(self, n: c_int) {
        api!(luaL_checktype(self.0, n, kind::TABLE));
    }

    /// The function that is `level` calls above, if there is one. A running function is at level 0.
    pub fn frame(self, level: c_int) -> Option<Frame> {
        let mut info = new_info();
        if api!(lua_getstack(self.0, level, &mut info)) == 0 {
            return None;
        }
        api!(lua_getinfo(self.0, c"nSl".as_ptr(), &mut info));
        // SAFETY: Lua has filled it in with texts that live as long as the function.
        let (what, source) = unsafe { (CStr::from_ptr(info.what), CStr::from_ptr(info.source)) };
        Some(Frame {
            is_native: what.to_bytes() == b"C",
            source: source.to_bytes().to_vec(),
            line: info.currentline,
        })
    }

    /// The same with what a debugger wants to know of it.
    pub fn level(self, level: c_int) -> Option<Level> {
        let mut info = new_info();
        if api!(lua_getstack(self.0, level, &mut info)) == 0 {
            return None;
        }
        api!(lua_getinfo(self.0, c"nSl".as_ptr(), &mut info));
        let text = |start: *const std::ffi::c_char| {
            // SAFETY: Lua has filled it in with a text, or with nothing; it lives as long as the function runs.
            let text = (!start.is_null()).then(|| unsafe { CStr::from_ptr(start) });
            text.map(|text| text.to_bytes().to_vec())
        };
        Some(Level {
            name: text(info.name),
            source: text(info.short_src.as_ptr()).unwrap_or_default(),
            line: info.currentline,
        })
    }

    /// Puts the `n`th variable of such a function on the top, and gives its name.
    pub fn push_local(self, level: c_int, n: c_int) -> Option<Vec<u8>> {
        let mut info = new_info();
        if api!(lua_getstack(self.0, level, &mut info)) == 0 {
            return None;
        }
        let name = api!(lua_getlocal(self.0, &info, n));
        // SAFETY: a text that lives as long as the function.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes().to_vec())
    }

    /// True if a hook was called for so many instructions, and not for a line.
    ///
    /// # Safety
    /// `info` is what the hook was called with.
    pub unsafe fn counted(info: *const DebugInfo) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (*info).event == ffi::LUA_HOOKCOUNT }
    }

    /// The name of the running function, as its caller has called it.
    pub fn running_name(self) -> Vec<u8> {
        let mut info = new_info();
        if api!(lua_getstack(self.0, 0, &mut info)) == 0 {
            return b"?".to_vec();
        }
        api!(lua_getinfo(self.0, c"n".as_ptr(), &mut info));
        if info.name.is_null() {
            return b"?".to_vec();
        }
        // SAFETY: Lua has filled it in with a text that lives as long as the function runs.
        unsafe { CStr::from_ptr(info.name) }.to_bytes().to_vec()
    }

    /// Calls `hook` after every so many instructions; after every line too if `lines`.
    pub fn set_hook(self, hook: ffi::lua_Hook, instructions: c_int, lines: bool) {
        let mask = match (instructions > 0, lines) {
            (true, false) => ffi::LUA_MASKCOUNT,
            (true, true) => ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE,
            (false, _) => ffi::LUA_MASKLINE,
        };
        api!(lua_sethook(self.0, Some(hook), mask, instructions));
    }

    /// Calls no hook any more.
    pub fn unset_hook(self) {
        api!(lua_sethook(self.0, None, 0, 0));
    }

    /// Raises the error on the top. For hooks, which have no other way.
    pub fn raise_now(self) -> ! {
        api!(lua_error(self.0))
    }

    /// Bytes that the interpreter uses.
    pub fn memory(self) -> usize {
        let kilobytes = api!(lua_gc(self.0, ffi::LUA_GCCOUNT, 0));
        usize::try_from(kilobytes).unwrap_or(0) * 1024
    }

    /// Collects some garbage.
    pub fn collect_some(self, steps: c_int) {
        api!(lua_gc(self.0, ffi::LUA_GCSTEP, steps));
    }

    /// Collects all garbage.
    pub fn collect_all(self) {
        api!(lua_gc(self.0, ffi::LUA_GCCOLLECT, 0));
    }

    /// The index of a value counted from the bottom, which stays the same when something is put on the top.
    pub fn absolute(self, at: c_int) -> c_int {
        match at {
            _ if at > 0 || at <= REGISTRY => at,
            _ => self.top() + at + 1,
        }
    }

    /// Calls a function of Lua's own in place of the running one, with what that has on its stack. May raise.
    pub fn instead(self, function: NativeFn) -> c_int {
        // SAFETY: a function for Lua, called as Lua would: on the frame of the running one.
        unsafe { function.0(self.0) }
    }

    /// The native function at a place of the stack.
    pub fn native(self, at: c_int) -> Option<NativeFn> {
        api!(lua_tocfunction(self.0, at)).map(NativeFn)
    }
}

/// A function of Lua's own libraries.
#[derive(Clone, Copy)]
pub struct NativeFn(ffi::lua_CFunction);

/// Lua's own libraries as far as scripts have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    Base,
    Table,
    String,
    Math,
}

/// Where a function on the way is.
pub struct Frame {
    pub is_native: bool,
    pub source: Vec<u8>,
    pub line: c_int,
}

/// A function on the way, as a debugger shows it.
pub struct Level {
    /// As its caller has called it.
    pub name: Option<Vec<u8>>,
    /// The short name of its source.
    pub source: Vec<u8>,
    pub line: c_int,
}

/// True if Lua would take this for compiled code.
pub fn is_bytecode(source: &[u8]) -> bool {
    source.first() == Some(&ffi::LUA_SIGNATURE[0])
}

/// A text as C reads it.
pub fn until_zero(text: &[u8]) -> &[u8] {
    match memchr::memchr(0, text) {
        Some(end) => &text[..end],
        None => text,
    }
}

fn new_info() -> DebugInfo {
    // SAFETY: plain numbers and pointers, for all of which zero is a value; Lua fills them in.
    unsafe { std::mem::zeroed() }
}

/// What Lua calls for every function of ours: the body is in its first upvalue.
unsafe extern "C-unwind" fn enter(state: *mut State) -> c_int {
    let lua = Lua(state);
    let body = lua.user_pointer(upvalue(1));
    // SAFETY: only `push_closure` makes such functions, with a body there; scripts cannot change upvalues.
    let body = unsafe { std::mem::transmute::<*mut c_void, Body>(body) };
    match body(lua) {
        Ok(results) => results,
        Err(Raise) => lua.raise_now(),
    }
}

/// Lua's memory comes from the program's allocator, so that it is counted with the rest.
unsafe extern "C" fn allocate(
    _: *mut c_void,
    old: *mut c_void,
    old_size: usize,
    size: usize,
) -> *mut c_void {
    let layout = |size| Layout::from_size_align(size, ALIGN).unwrap_or(Layout::new::<u128>());
    // SAFETY: Lua gives back what it got, and says how large it was.
    let new = unsafe {
        match (old.is_null() || old_size == 0, size) {
            (true, 0) => return std::ptr::null_mut(),
            (true, _) => alloc(layout(size)),
            (false, 0) => {
                dealloc(old.cast(), layout(old_size));
                return std::ptr::null_mut();
            }
            (false, _) => realloc(old.cast(), layout(old_size), size),
        }
    };
    if new.is_null() {
        handle_alloc_error(layout(size));
    }
    new.cast()
}
