//! The handler of fatal signals, and the marks that say for which source a thread works.
//!
//! In: threads that are marked; a signal. Out: a record in a file that was opened beforehand, and then the death that
//! the signal means: the handler that was there before runs, or the default action, so that core dumps and systemd see
//! the signal itself. Installed once a process, by `app` through [`super::Crashes`]; never removed.
//!
//! **Marks.** A thread that works for a source carries the mark of its slot in a thread-local variable. While it is
//! inside the decoder, it carries it in its *timer slack* too, which the kernel hands down to every thread that it starts
//! (prctl(2)): so the worker threads of a decoder are known by their source, though no code of ours ever runs on them.
//! The slack stays what it was but for four microseconds at most. Only there: threads started elsewhere, such as those
//! of GLib's pools, may work for anybody later.
//!
//! **Order.** wasmtime has handlers for its traps. It is to install them after this: then its handlers come first, keep
//! what is a trap, and pass on what is not. Where it was first, this handler comes before it: it records only crashes
//! of marked threads, which run no wasm, and passes everything on.
//!
//! GStreamer's handler of SIGSEGV, which it has while it loads plugins, is turned off in `app`.
//!
//! **Nobody's.** Some things are known to have nothing to do with any source: [`blameless`], [`pardon`].
//!
//! **Not recorded**: signals that another process sent (systemd's watchdog sends SIGABRT), and the abort of a panic
//! that cannot unwind. SIGKILL, and with it the kernel's OOM killer, reaches no handler.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::time::{ClockId, clock_gettime};

use super::record::{self, Fatal, Owner};
use super::table;

/// Signals that end a process because of what it did. `__builtin_trap` is SIGILL on x86, SIGTRAP on ARM.
const FATAL: [c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP];
/// Bytes of the stack on which a marked thread handles signals: a recursion without end has used up its own.
const STACK: usize = 64 << 10;
/// The mark of a thread that does what no source has a part in.
const BLAMELESS: usize = usize::MAX;
/// How long a second crashing thread waits for the first one's record, in milliseconds.
const PATIENCE: u64 = 200;

static RECORD: OnceLock<File> = OnceLock::new();
static PREVIOUS: [OnceLock<libc::sigaction>; FATAL.len()] = [const { OnceLock::new() }; FATAL.len()];
/// Somebody else's handlers for traps were there first.
static LATE: AtomicBool = AtomicBool::new(false);
/// Timer slack of unmarked threads, nanoseconds; 0 where threads are not marked by it.
static SLACK: AtomicU64 = AtomicU64::new(0);
/// What this process dies of is no source's doing any more.
static PARDONED: AtomicBool = AtomicBool::new(false);
/// 0: nothing yet; 1: a record is being written; 2: it is.
static STATE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The mark of this thread; 0 for none.
    static MARK: Cell<usize> = const { Cell::new(0) };
    /// The mark in its timer slack, where it was put there; 0 for none.
    static HANDS_DOWN: Cell<usize> = const { Cell::new(0) };
    /// The stack for signals that this thread was given; it goes with the thread at the latest.
    static SIGNAL_STACK: RefCell<Option<Stack>> = const { RefCell::new(None) };
}

/// Monotonic clock, milliseconds.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Installs the handler, which writes to this file.
///
/// # Errors
/// Where it is installed already, or the system refuses.
pub(super) fn install(record: File) -> io::Result<()> {
    if RECORD.set(record).is_err() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "fatal signals are handled already"));
    }
    // The first use of this clock reads where the kernel has it; the handler must not.
    let _ = (now(), clock_gettime(ClockId::Realtime));
    SLACK.store(rustix::thread::current_timer_slack().unwrap_or(0), Ordering::Relaxed);
    for (signal, previous) in FATAL.into_iter().zip(&PREVIOUS) {
        let before = action(signal, None)?;
        // Rust's own handler of SIGSEGV and SIGBUS is there before all others; of these it has none.
        if matches!(signal, libc::SIGILL | libc::SIGFPE) && before.sa_sigaction != libc::SIG_DFL {
            LATE.store(true, Ordering::Relaxed);
        }
        // Before ours is in place: it may be needed at once.
        let _ = previous.set(before);
        // SAFETY: all zero is a valid sigaction: the default action without flags.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = on_fatal as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action(signal, Some(&ours))?;
    }
    Ok(())
}

/// Sets a signal's action where one is given; gives the one before.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: all zero is a valid sigaction.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, or the first is null, which changes nothing; the only handler that
    // is ever set here is `on_fatal`, which lives as long as the program, or one that was set before.
    let result = unsafe { libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), &raw mut before) };
    if result == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
}

/// From now on this thread works for the source with this mark, or for none, outside of its decoder.
pub(super) fn enter(mark: Option<usize>) {
    hand_down(None);
    MARK.set(mark.unwrap_or(0));
    // At a thread's very end there is no place left to keep one.
    let _ = SIGNAL_STACK.try_with(|stack| match mark {
        Some(_) if stack.borrow().is_none() => *stack.borrow_mut() = Stack::take(),
        Some(_) => {}
        None => drop(stack.take()),
    });
}

/// From now on threads that this thread starts carry this mark, or none.
pub(super) fn hand_down(mark: Option<usize>) {
    let mark = mark.unwrap_or(0);
    if HANDS_DOWN.replace(mark) == mark && mark > 0 {
        return;
    }
    let slack = SLACK.load(Ordering::Relaxed);
    if let Some(slack) = NonZeroU64::new(slack).and_then(|slack| slack.checked_add(mark as u64)) {
        // Where the kernel does not take it, only this thread is known, and not those that it starts.
        let _ = rustix::thread::set_current_timer_slack(Some(slack));
    }
}

/// Whether this thread hands down a mark.
pub(super) fn hands_down() -> bool {
    HANDS_DOWN.get() > 0
}

/// A stack on which this thread handles its signals.
struct Stack(*mut c_void);

impl Stack {
    /// Gives this thread one, where it has none: threads of C libraries do not.
    fn take() -> Option<Self> {
        // SAFETY: all zero is a valid stack_t.
        let mut before: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: a null pointer changes nothing, and the other is valid for the call.
        let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut before) };
        if asked != 0 || before.ss_flags & libc::SS_DISABLE == 0 {
            return None;
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing that is in use is mapped over.
        let mapped = unsafe { mmap_anonymous(ptr::null_mut(), STACK, access, MapFlags::PRIVATE) };
        let stack = Self(mapped.ok()?);
        let new = libc::stack_t { ss_sp: stack.0, ss_flags: 0, ss_size: STACK };
        // SAFETY: the mapping is this thread's alone until the drop, which takes it out of use first.
        (unsafe { libc::sigaltstack(&raw const new, ptr::null_mut()) } == 0).then_some(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: STACK };
        // SAFETY: the pointer is valid for the call. No handler runs on the stack now: this thread is here.
        if unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) } == 0 {
            // SAFETY: mapped by `take` with this length, and out of use.
            let _ = unsafe { munmap(self.0, STACK) };
        }
    }
}

/// Does what no source has a part in, such as the initialisation of a driver: what this thread dies of meanwhile is
/// recorded, and blamed on nobody. Threads that are started meanwhile are nobody's in particular.
pub fn blameless<R>(work: impl FnOnce() -> R) -> R {
    struct Back(usize);
    impl Drop for Back {
        fn drop(&mut self) {
            MARK.set(self.0);
        }
    }
    let _back = Back(MARK.replace(BLAMELESS));
    work()
}

/// From now on, whatever this process dies of is blamed on nobody: something broke that all sources share, and what
/// breaks next is no source's doing. For the rest of the process, which is to end soon.
pub fn pardon() {
    PARDONED.store(true, Ordering::Relaxed);
}

/// For whom this thread works: by its own mark, or by the one that it was started with.
fn owner() -> Owner {
    if MARK.get() == BLAMELESS || PARDONED.load(Ordering::Relaxed) {
        return Owner::Nobody;
    }
    let inherited = || {
        let base = SLACK.load(Ordering::Relaxed);
        let slack = rustix::thread::current_timer_slack().ok()?;
        usize::try_from(slack.checked_sub(base)?).ok().filter(|_| base > 0)
    };
    let mark = Some(MARK.get()).filter(|mark| *mark > 0).or_else(inherited);
    mark.and_then(table::marked).map_or(Owner::Unknown, Owner::Source)
}

/// Handles a fatal signal. Whatever it calls is safe to call in a handler: it takes no lock and no memory, and reads
/// thread-local variables that need no initialisation.
extern "C" fn on_fatal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the place of this thread's errno; where the signal turns out to be a trap, the thread goes on.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: the kernel gives a valid siginfo to a handler with SA_SIGINFO.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    // Of a signal that somebody sent, and not of a fault, the sender is known.
    let sent = code <= 0;
    let foreign = sent && sender != rustix::process::getpid().as_raw_pid();
    if !foreign && !std::thread::panicking() {
        note(signal);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
    pass_on(signal, sent, info, context);
}

fn note(signal: c_int) {
    let owner = owner();
    if !matches!(owner, Owner::Source(_)) && LATE.load(Ordering::Relaxed) {
        return;
    }
    let now = now();
    if STATE.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another thread crashed first: it must not die in the middle of its record.
        while STATE.load(Ordering::Acquire) == 1 && self::now().saturating_sub(now) < PATIENCE {
            rustix::thread::sched_yield();
        }
        return;
    }
    let mut thread = [0u8; 17];
    // SAFETY: PR_GET_NAME writes at most 16 bytes with the zero at their end.
    unsafe { libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr()) };
    let length = thread.iter().position(|byte| *byte == 0).unwrap_or(0);
    let time = clock_gettime(ClockId::Realtime);
    let at = time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000;
    let fatal = Fatal { signal, thread: thread.get(..length).unwrap_or_default(), at, now, owner };
    if let Some(file) = RECORD.get() {
        record::write(&fatal, &mut |mut bytes| {
            while let Ok(written @ 1..) = rustix::io::write(file, bytes) {
                bytes = bytes.get(written..).unwrap_or_default();
            }
        });
    }
    STATE.store(2, Ordering::Release);
}

/// Lets the handler that was there before have the signal, or the default action.
fn pass_on(signal: c_int, sent: bool, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = FATAL.iter().position(|fatal| *fatal == signal).and_then(|at| PREVIOUS.get(at)?.get());
    let Some(previous) = previous else { return };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => _ = action(signal, Some(previous)),
        // SAFETY: this is what its owner gave to sigaction with SA_SIGINFO, so a function with these arguments.
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                std::mem::transmute::<usize, _>(handler);
            handler(signal, info, context);
        },
        // SAFETY: as above, without SA_SIGINFO: a function of the signal's number.
        handler => unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute::<usize, _>(handler);
            handler(signal);
        },
    }
    // A fault comes again when this returns; what was sent has to be sent again, now that the default action is set
    // (Rust's own handler, too, does no more than that).
    if sent && action(signal, None).is_ok_and(|now| now.sa_sigaction == libc::SIG_DFL) {
        // SAFETY: may be called in a handler. Where the signal is blocked, it comes when this returns.
        unsafe { libc::raise(signal) };
    }
}

/// Ways to die, for tests: safe code has none.
#[cfg(test)]
pub(super) mod fault {
    /// A fault, as a bug in C makes it.
    pub(in super::super) fn write_to_null() {
        // SAFETY: none is needed: the process is to die of it.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
    }

    /// A panic where it cannot unwind: the process aborts.
    pub(in super::super) extern "C" fn panic_in_a_callback() {
        panic!("on purpose");
    }
}
