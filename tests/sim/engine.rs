//! A GPU server: continuous batching with chunked prefill and a prefix cache, as vLLM and SGLang do it.
//!
//! It works in steps. In each, every request that is being answered gets a token, and what is left of the step's token
//! budget reads the prompts of those that wait, first come, first served. A step takes `BASE + read × READ + written ×
//! WRITE`, times how slow the server is. The figures are about those of an 8B model on one A100: 20,000 prompt tokens a
//! second, 10 ms for a step of one.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    rc::Rc,
};

use crate::load::Prompt;

/// Tokens of a block of the prefix cache.
pub const BLOCK: u64 = 16;
/// Blocks of the prefix cache: 160,000 tokens.
const CACHE: usize = 10_000;
/// Tokens of one step.
const BUDGET: u64 = 2_048;
/// Requests in one batch: vLLM's `max_num_seqs`.
const BATCH: usize = 256;
/// Microseconds of a step, of a token that is read, of a token that is written.
const BASE: u64 = 10_000;
const READ: u64 = 50;
const WRITE: u64 = 150;

/// A block's hash is a hash already.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The blocks that were used last.
#[derive(Debug, Default)]
struct Cache {
    used: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    order: VecDeque<(u64, u64)>,
    clock: u64,
}

impl Cache {
    fn known(&self, blocks: &[u64]) -> u64 {
        blocks.partition_point(|block| self.used.contains_key(block)) as u64
    }

    fn keep(&mut self, blocks: &[u64]) {
        self.clock += 1;
        // The end of a prompt is of less use than its beginning, so it goes first.
        for block in blocks.iter().rev() {
            self.used.insert(*block, self.clock);
            self.order.push_back((*block, self.clock));
        }
        while self.used.len() > CACHE {
            let Some((block, clock)) = self.order.pop_front() else { return };
            if self.used.get(&block) == Some(&clock) {
                self.used.remove(&block);
            }
        }
    }
}

#[derive(Debug)]
struct Job {
    request: usize,
    prompt: Rc<Prompt>,
    cached: u64,
    unread: u64,
    unwritten: u64,
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Stepped {
    /// Requests whose first token came.
    pub first: Vec<usize>,
    /// Requests that are answered, with the prompt tokens that were cached.
    pub done: Vec<(usize, u64)>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Engine {
    waiting: VecDeque<Job>,
    running: Vec<Job>,
    cache: Cache,
    /// How long everything takes, in thousandths of the usual.
    slow_milli: u64,
    /// When the steps under way began and how long one takes; `None` = idle.
    stepping: Option<(u64, u64)>,
    /// Numbers the steps, so that one that was replanned is known.
    pub generation: u64,
}

impl Engine {
    /// An idle one that takes so many thousandths of the usual time.
    pub fn new(slow_milli: u64) -> Self {
        Self { slow_milli, ..Self::default() }
    }

    /// Requests that it works on or that wait.
    pub fn load(&self) -> u64 {
        (self.waiting.len() + self.running.len()) as u64
    }

    /// Requests of whose prompts nothing has been read: what the step under way has no room for.
    pub fn unread(&self) -> u64 {
        let mut room = self.budget();
        let mut unread = self.waiting.len() as u64;
        for job in self.running.iter().filter(|job| job.unread > 0) {
            unread += u64::from(room == 0 && job.unread == job.prompt.tokens - job.cached);
            room = room.saturating_sub(job.unread);
        }
        unread
    }

    /// A request came. Returns when the steps under way are to be looked at, if that changes.
    pub fn take(&mut self, request: usize, prompt: Rc<Prompt>, now: u64) -> Option<u64> {
        let unwritten = prompt.output.max(1);
        self.waiting.push_back(Job { request, prompt, cached: 0, unread: 0, unwritten });
        let Some((began, each)) = self.stepping else { return Some(self.plan(now)) };
        // Steps that only write go on unobserved; with somebody waiting, the one under way is the last of them.
        self.generation += 1;
        Some(began + (now - began).div_ceil(each).max(1) * each)
    }

    /// Starts anew: whatever it worked on is lost.
    pub fn crash(&mut self) -> Vec<usize> {
        self.stepping = None;
        self.generation += 1;
        self.cache = Cache::default();
        self.waiting.drain(..).chain(self.running.drain(..)).map(|job| job.request).collect()
    }

    /// The steps under way end at `now`. Returns what they brought, and when to look again.
    pub fn step(&mut self, now: u64) -> (Stepped, Option<u64>) {
        let mut stepped = Stepped::default();
        let Some((began, each)) = self.stepping.take() else { return (stepped, None) };
        let steps = ((now - began) / each.max(1)).max(1);
        let mut budget = self.budget();
        for job in &mut self.running {
            if job.unread == 0 {
                job.unwritten = job.unwritten.saturating_sub(steps);
                continue;
            }
            let read = job.unread.min(budget);
            budget -= read;
            job.unread -= read;
            if read > 0 && job.unread == 0 {
                job.unwritten -= 1;
                self.cache.keep(&job.prompt.blocks);
                stepped.first.push(job.request);
            }
        }
        let done = self.running.extract_if(.., |job| job.unread == 0 && job.unwritten == 0);
        stepped.done.extend(done.map(|job| (job.request, job.cached)));
        let next = (self.load() > 0).then(|| self.plan(now));
        (stepped, next)
    }

    /// What a step may read beside what it writes.
    fn budget(&self) -> u64 {
        BUDGET.saturating_sub(self.running.iter().filter(|job| job.unread == 0).count() as u64)
    }

    /// Begins the next steps; returns when they end.
    fn plan(&mut self, now: u64) -> u64 {
        while self.running.len() < BATCH
            && let Some(mut job) = self.waiting.pop_front()
        {
            let known = self.cache.known(&job.prompt.blocks) * BLOCK;
            // The last token is always read: its output begins the answer.
            job.cached = known.min(job.prompt.tokens - 1);
            job.unread = job.prompt.tokens - job.cached;
            self.running.push(job);
        }
        let unread: u64 = self.running.iter().map(|job| job.unread).sum();
        let writing = self.running.iter().filter(|job| job.unread == 0);
        let written = writing.clone().count() as u64;
        let each = (BASE + unread.min(self.budget()) * READ + written * WRITE) * self.slow_milli / 1_000;
        let alone = writing.map(|job| job.unwritten).min().filter(|_| unread == 0 && self.waiting.is_empty());
        self.stepping = Some((now, each));
        self.generation += 1;
        now + each * alone.unwrap_or(1).max(1)
    }
}
