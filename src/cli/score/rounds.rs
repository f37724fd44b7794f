//! Who is asked when: several questions at once, then one by one what the budget refused while others held of it.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::bail;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Args, Way,
    ask::{Asker, NoAnswer, Spent, to_judge},
    grade::{Check, Verdict, first_json},
    progress::Progress,
    results::{Done, Results},
    suite::{Question, Suite},
};

/// The most of a reason that is noted, in characters.
const NOTED: usize = 500;

/// One question to one model.
#[derive(Debug)]
struct Task {
    question: usize,
    model: String,
}

/// Why a run ended before its last question, and what helps.
pub(super) struct Stopped {
    pub(super) why: String,
    pub(super) hint: &'static str,
}

/// What helps where a budget has no room for a question's hold: the same run again would end the same.
const MORE: &str = "a larger `--budget` or a smaller `--max-output` makes room; then it goes on where it was";

/// Asks what has no verdict yet. What it gives says why it stopped before the end.
///
/// # Errors
/// Results or books that cannot be written, a gateway that refuses for good.
pub(super) async fn drive(
    args: &Args,
    way: &Way,
    suite: &Arc<Suite>,
    results: &mut Results,
) -> anyhow::Result<Option<Stopped>> {
    let all = args
        .model
        .iter()
        .flat_map(|model| (0..suite.questions.len()).map(move |question| Task { question, model: model.clone() }));
    let open = |task: &Task| results.verdict(&task.model, &suite.questions[task.question].id).is_none();
    let tasks: VecDeque<Task> = all.filter(open).collect();
    if tasks.is_empty() {
        return Ok(None);
    }
    let left = args.budget.map(|budget| i128::from(budget) - results.spent_nanousd);
    if left.is_some_and(|left| left <= 0) {
        return Ok(Some(Stopped { why: "the budget is spent".to_owned(), hint: MORE }));
    }
    let asker = Arc::new(way.start(args, left).await?);
    let progress = Progress::new(tasks.len());
    let mut run = Run { judge: args.judge.clone(), suite, asker: Arc::clone(&asker), results, progress };
    let ended = run.rounds(usize::from(args.concurrency), tasks).await;
    run.progress.end();
    asker.close().await;
    ended
}

/// What is still to be asked in a round.
#[derive(Default)]
struct Queue {
    open: VecDeque<Task>,
    /// Questions that the budget could not pay for, and those behind them to the same model.
    refused: VecDeque<Task>,
    /// Why nothing else has an answer to hope for.
    fatal: Option<String>,
}

impl Queue {
    fn next(&mut self) -> Option<Task> {
        if self.fatal.is_some() { None } else { self.open.pop_front() }
    }

    /// Ends a model's questions for this round, or the round.
    fn end(&mut self, model: &str, why: NoAnswer) {
        match why {
            NoAnswer::Budget => {
                let (refused, open): (VecDeque<Task>, _) =
                    mem::take(&mut self.open).into_iter().partition(|task| task.model == model);
                self.open = open;
                self.refused.extend(refused);
            }
            NoAnswer::Final(why) | NoAnswer::Failed(why) => {
                self.fatal.get_or_insert(why);
            }
        }
    }
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of a question.
struct Came {
    /// What is noted; nothing where nothing was spent.
    done: Option<Done>,
    /// Why the next one to the same model would come to nothing either.
    end: Option<NoAnswer>,
}

struct Run<'a> {
    judge: Option<String>,
    suite: &'a Arc<Suite>,
    asker: Arc<Asker>,
    results: &'a mut Results,
    progress: Progress,
}

impl Run<'_> {
    async fn rounds(&mut self, many: usize, tasks: VecDeque<Task>) -> anyhow::Result<Option<Stopped>> {
        let (mut refused, mut answered) = self.round(many, tasks).await?;
        // What others held while a question was refused may have been freed: the rest is asked one by one.
        while !refused.is_empty() && answered > 0 {
            (refused, answered) = self.round(1, refused).await?;
        }
        let models: BTreeSet<String> = refused.into_iter().map(|task| format!("`{}`", task.model)).collect();
        let models: Vec<String> = models.into_iter().collect();
        let why = || format!("the budget cannot pay for the next question of {}", models.join(", "));
        let told = || Stopped { why: why(), hint: MORE };
        Ok((!models.is_empty()).then(told))
    }

    /// Asks what is in the queue, so many at once. Gives what the budget refused, and how many were answered.
    async fn round(&mut self, many: usize, open: VecDeque<Task>) -> anyhow::Result<(VecDeque<Task>, usize)> {
        let queue = Arc::new(Mutex::new(Queue { open, ..Queue::default() }));
        let (sender, mut receiver) = mpsc::channel::<(Done, bool)>(many);
        let mut workers = JoinSet::new();
        for _ in 0..many {
            let (queue, sender) = (Arc::clone(&queue), sender.clone());
            let (asker, suite, judge) = (Arc::clone(&self.asker), Arc::clone(self.suite), self.judge.clone());
            workers.spawn(async move {
                loop {
                    let next = locked(&queue).next();
                    let Some(task) = next else { break };
                    let Came { done, end } =
                        answer(&asker, &task, &suite.questions[task.question], judge.as_deref()).await;
                    let whole = end.is_none();
                    if let Some(why) = end {
                        let mut queue = locked(&queue);
                        queue.end(&task.model, why);
                        if done.is_none() {
                            queue.refused.push_front(task);
                        }
                    }
                    if let Some(done) = done
                        && sender.send((done, whole)).await.is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut answered = 0;
        while let Some((done, whole)) = receiver.recv().await {
            self.results.append(self.suite, &done)?;
            answered += usize::from(whole);
            self.progress.count(&done, self.results.spent_nanousd);
        }
        while workers.join_next().await.is_some() {}
        let queue = mem::take(&mut *locked(&queue));
        match queue.fatal {
            Some(why) => bail!("{why}\nhint: once that is mended, run it again to go on where it was"),
            None => Ok((queue.refused, answered)),
        }
    }
}

/// Asks one question and judges the answer.
async fn answer(asker: &Asker, task: &Task, question: &Question, judge: Option<&str>) -> Came {
    let mut body = Value::Object(question.params.clone());
    body["messages"] = question.messages.clone();
    let (said, spent) = asker.ask(&task.model, body).await;
    let noted = |right, note: &str, spent| {
        let note = note.chars().take(NOTED).collect();
        Some(Done { question: task.question, model: task.model.clone(), right, note, spent })
    };
    let done = |right, note: &str, spent| Came { done: noted(right, note, spent), end: None };
    let text = match said {
        Ok(text) => text,
        Err(NoAnswer::Failed(why)) => return done(None, &why, spent),
        // Attempts before the refusal may have been billed.
        Err(end) if spent.nanousd != 0 => return Came { done: noted(None, end.note(), spent), end: Some(end) },
        Err(end) => return Came { done: None, end: Some(end) },
    };
    match (question.check.grade(&text), judge, &question.check) {
        (Verdict::Read(right, read), ..) => done(Some(right), &read, spent),
        (Verdict::Ask, Some(judge), Check::Judge(rubric)) => {
            let (verdict, took) = judged(asker, judge, question, rubric, &text).await;
            let note = if matches!(verdict, Ok(Some(_))) { "judged by" } else { "no verdict of" };
            let note = format!("{note} {judge}");
            match verdict {
                Ok(verdict) => done(verdict, &note, spent.and(took)),
                Err(end) => Came { done: noted(None, &note, spent.and(took)), end: Some(end) },
            }
        }
        (Verdict::Ask, ..) => done(None, "no judge", spent),
    }
}

/// A judge's verdict, asked for twice at most; an error says why the next answer would have none either.
async fn judged(
    asker: &Asker,
    judge: &str,
    question: &Question,
    rubric: &str,
    answer: &str,
) -> (Result<Option<bool>, NoAnswer>, Spent) {
    let mut spent = Spent::default();
    for _ in 0..2 {
        let body = serde_json::json!({"messages": to_judge(&question.messages, rubric, answer)});
        let (said, took) = asker.ask(judge, body).await;
        spent = spent.and(took);
        match said {
            Err(end @ (NoAnswer::Budget | NoAnswer::Final(_))) => return (Err(end), spent),
            Err(NoAnswer::Failed(_)) => {}
            Ok(text) => {
                let verdict = first_json(&text).and_then(|said| said["right"].as_bool());
                if verdict.is_some() {
                    return (Ok(verdict), spent);
                }
            }
        }
    }
    (Ok(None), spent)
}
