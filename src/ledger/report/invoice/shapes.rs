//! The forms of vendors' exports, each told by its columns. What is known of them was read in public exports and
//! manuals, as of November 2026:
//!
//! - OpenAI, usage: `start_time`, `end_time`, `start_time_iso`, `end_time_iso`, `num_model_requests`, `model`,
//!   `input_tokens`, `output_tokens`, `input_cached_tokens`, …; numbers are written `59200.0`; days are UTC.
//! - OpenAI, costs: `start_time_iso`, `amount_value`, `amount_currency`, `line_item`, …; a line item is a model with
//!   its kind of tokens (`gpt-4o-2024-08-06, input`) or is missing, and then a row is a day.
//! - DeepSeek, `amount-*.csv`: `user_id`, `utc_date` (`2026-07-25` or `20260725`, later `start_time_iso`), `model`,
//!   `api_key_name`, `api_key`, `type`, `price`, `amount`: one row a kind of tokens, `request_count` among them. The
//!   key itself stands in it and is never read.
//! - DeepSeek, `cost-*.csv`: `utc_date`, `model`, `wallet_type`, `cost` (some exports have it negative), `currency`.
//! - Alibaba Cloud (DashScope, Model Studio): bill details, one row an instance, whose id is
//!   `[ApiKeyID;]Workspace;Model;output_token;Channel` (with `text_token` before it in older ones).
//! - Anybody: `date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency`, of which all but the date
//!   may be missing, and `requests` may be there.

use super::{Invoice, InvoiceError, Told};
use crate::ledger::report::csv::{Record, read_nano, records};

/// Whose form a bill has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI's usage by model.
    OpenaiUsage,
    /// OpenAI's costs by line item.
    OpenaiCosts,
    /// DeepSeek's tokens.
    DeepseekAmount,
    /// DeepSeek's costs.
    DeepseekCost,
    /// Alibaba Cloud's bill details.
    Dashscope,
    /// The form that anybody may write.
    Plain,
}

impl Shape {
    /// What it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiUsage => "OpenAI usage",
            Self::OpenaiCosts => "OpenAI costs",
            Self::DeepseekAmount => "DeepSeek amount",
            Self::DeepseekCost => "DeepSeek cost",
            Self::Dashscope => "DashScope bill details",
            Self::Plain => "plain",
        }
    }

    /// Whose calendar its days are of.
    pub const fn zone(self) -> &'static str {
        match self {
            Self::Dashscope => "Asia/Shanghai",
            _ => "UTC",
        }
    }
}

/// Reads a bill of any known form.
///
/// # Errors
/// [`InvoiceError`] says which line or which columns cannot be read.
pub fn read(text: &str) -> Result<Invoice, InvoiceError> {
    let records = records(text)?;
    let Some(((_, head), rows)) = records.split_first() else { return Err(InvoiceError::Empty) };
    let columns = Columns(head.iter().map(|name| name.trim().to_lowercase()).collect());
    let shape = columns.shape().ok_or_else(|| InvoiceError::Unknown(head.join(",")))?;
    let mut invoice = Invoice { shape, lines: Default::default() };
    for record in rows {
        let row = Row { columns: &columns, record };
        let read = match shape {
            Shape::OpenaiUsage => openai_usage(&row)?,
            Shape::OpenaiCosts => openai_costs(&row)?,
            Shape::DeepseekAmount => deepseek_amount(&row)?,
            Shape::DeepseekCost => deepseek_cost(&row)?,
            Shape::Dashscope => dashscope(&row)?,
            Shape::Plain => Some(plain(&row)?),
        };
        if let Some((day, model, told)) = read {
            invoice.lines.entry((day, model)).or_default().add(&told);
        }
    }
    Ok(invoice)
}

struct Columns(Vec<String>);

impl Columns {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|column| column == name)
    }

    fn shape(&self) -> Option<Shape> {
        let has_all = |names: &[&str]| names.iter().all(|name| self.has(name));
        let dated = self.has("utc_date") || self.has("start_time_iso");
        Some(if has_all(&["start_time_iso", "model", "input_tokens", "output_tokens"]) {
            Shape::OpenaiUsage
        } else if has_all(&["start_time_iso", "amount_value", "amount_currency"]) {
            Shape::OpenaiCosts
        } else if dated && has_all(&["model", "type", "amount"]) {
            Shape::DeepseekAmount
        } else if dated && has_all(&["model", "cost", "currency"]) {
            Shape::DeepseekCost
        } else if INSTANCE.iter().any(|name| self.has(name)) && AMOUNT.iter().any(|name| self.has(name)) {
            Shape::Dashscope
        } else if self.has("date") && (self.has("amount") || self.has("input_tokens") || self.has("output_tokens")) {
            Shape::Plain
        } else {
            return None;
        })
    }
}

struct Row<'a> {
    columns: &'a Columns,
    record: &'a Record,
}

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        let index = self.columns.0.iter().position(|name| name == column);
        index.and_then(|index| self.record.1.get(index)).map(|field| field.trim()).unwrap_or_default()
    }

    /// The first of these columns that is there.
    fn any<'c>(&self, columns: &[&'c str]) -> (&'c str, &str) {
        let there = columns.iter().find(|column| self.columns.has(column)).copied().unwrap_or_default();
        (there, self.text(there))
    }

    fn wrong(&self, column: &str, value: &str, wanted: &'static str) -> InvoiceError {
        InvoiceError::Field { line: self.record.0, column: column.to_owned(), value: value.to_owned(), wanted }
    }

    /// Whole numbers are also written `59200.0`; an empty field tells nothing.
    fn count(&self, column: &str) -> Result<Option<u64>, InvoiceError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let nano = read_nano(text).filter(|nano| nano % NANO == 0);
        let whole = nano.and_then(|nano| u64::try_from(nano / NANO).ok());
        whole.map(Some).ok_or_else(|| self.wrong(column, text, "a whole number"))
    }

    fn amount(&self, column: &str) -> Result<i128, InvoiceError> {
        let text = self.text(column);
        read_nano(text).ok_or_else(|| self.wrong(column, text, "an amount"))
    }

    /// `2026-07-25`, `20260725`, `2026/7/25`, or an instant that begins so.
    fn day(&self, column: &str) -> Result<String, InvoiceError> {
        let text = self.text(column);
        let wrong = || self.wrong(column, text, "a day");
        let date = text.split(['T', ' ']).next().unwrap_or_default().replace('/', "-");
        let parts: Vec<u16> = if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) {
            [&date[..4], &date[4..6], &date[6..]].iter().filter_map(|part| part.parse().ok()).collect()
        } else {
            date.split('-').filter_map(|part| part.parse().ok()).collect()
        };
        match parts.as_slice() {
            [year, month @ 1..=12, day @ 1..=31] => Ok(format!("{year:04}-{month:02}-{day:02}")),
            _ => Err(wrong()),
        }
    }

    fn date(&self) -> Result<String, InvoiceError> {
        self.day(if self.columns.has("utc_date") { "utc_date" } else { "start_time_iso" })
    }
}

const NANO: i128 = 1_000_000_000;

type Line = (String, String, Told);

fn openai_usage(row: &Row) -> Result<Option<Line>, InvoiceError> {
    // A day without any use is a row without a model.
    if row.text("model").is_empty() {
        return Ok(None);
    }
    let told = Told {
        input: row.count("input_tokens")?,
        cached: row.count("input_cached_tokens")?,
        output: row.count("output_tokens")?,
        requests: row.count("num_model_requests")?,
        ..Told::default()
    };
    Ok(Some((row.date()?, row.text("model").to_owned(), told)))
}

fn openai_costs(row: &Row) -> Result<Option<Line>, InvoiceError> {
    if row.text("amount_value").is_empty() {
        return Ok(None);
    }
    let currency = row.text("amount_currency").to_uppercase();
    let model = row.text("line_item").split(", ").next().unwrap_or_default().to_owned();
    let told = Told { amounts: [(currency, row.amount("amount_value")?)].into(), ..Told::default() };
    Ok(Some((row.date()?, model, told)))
}

fn deepseek_amount(row: &Row) -> Result<Option<Line>, InvoiceError> {
    let count = row.count("amount")?;
    let told = match row.text("type") {
        "input_cache_hit_tokens" => Told { input: count, cached: count, ..Told::default() },
        "input_cache_miss_tokens" | "input_tokens" => Told { input: count, ..Told::default() },
        "output_tokens" => Told { output: count, ..Told::default() },
        "request_count" => Told { requests: count, ..Told::default() },
        _ => return Ok(None),
    };
    Ok(Some((row.date()?, row.text("model").to_owned(), told)))
}

fn deepseek_cost(row: &Row) -> Result<Option<Line>, InvoiceError> {
    let currency = row.text("currency").to_uppercase();
    let told = Told { amounts: [(currency, row.amount("cost")?.abs())].into(), ..Told::default() };
    Ok(Some((row.date()?, row.text("model").to_owned(), told)))
}

/// Columns of Alibaba Cloud's bill details in its two languages.
const INSTANCE: [&str; 3] = ["instance id", "实例id", "instanceid"];
const AMOUNT: [&str; 6] =
    ["amount after price reduction", "pretax amount", "pretaxamount", "优惠后金额", "应付金额", "目录总价"];
const DAY: [&str; 6] = ["billing date", "billingdate", "consumption time", "账单日期", "消费时间", "日期"];
const USED: [&str; 3] = ["usage", "用量", "usage quantity"];
const UNIT: [&str; 3] = ["usage unit", "用量单位", "usageunit"];
const CURRENCY: [&str; 2] = ["currency", "币种"];

fn dashscope(row: &Row) -> Result<Option<Line>, InvoiceError> {
    let (_, instance) = row.any(&INSTANCE);
    let parts: Vec<&str> = instance.split(';').map(str::trim).collect();
    // Whatever stands before: the model is what is followed by a kind of tokens.
    let Some(kind) = (2..parts.len()).find(|index| parts[*index].contains("token")) else { return Ok(None) };
    let (model, kind) = (parts[kind - 1], parts[kind]);
    let (amount, text) = row.any(&AMOUNT);
    let nano = read_nano(text).ok_or_else(|| row.wrong(amount, text, "an amount"))?;
    let currency = match row.any(&CURRENCY).1 {
        "" | "人民币" => "CNY".to_owned(),
        code => code.to_uppercase(),
    };
    let mut told = Told { amounts: [(currency, nano)].into(), ..Told::default() };
    let (_, used) = row.any(&USED);
    if let Some(tokens) = read_nano(used).and_then(|used| used.checked_mul(tokens_in(row.any(&UNIT).1))) {
        let count = u64::try_from(super::super::divided(tokens, NANO)).ok();
        match kind {
            kind if kind.starts_with("output") => told.output = count,
            kind if kind.contains("cache") && !kind.contains("creat") => (told.input, told.cached) = (count, count),
            _ => told.input = count,
        }
    }
    let (day, _) = row.any(&DAY);
    Ok(Some((row.day(day)?, model.to_owned(), told)))
}

/// Tokens are billed by the thousand, and some by the million.
fn tokens_in(unit: &str) -> i128 {
    let unit = unit.to_lowercase();
    if unit.contains("百万") || unit.contains("million") || unit.starts_with("1m") || unit == "mtokens" {
        1_000_000
    } else if unit.contains('千') || unit.contains("thousand") || unit.starts_with("1k") || unit.starts_with('k') {
        1_000
    } else {
        1
    }
}

fn plain(row: &Row) -> Result<Line, InvoiceError> {
    let mut told = Told {
        input: row.count("input_tokens")?,
        cached: row.count("cached_input_tokens")?,
        output: row.count("output_tokens")?,
        requests: row.count("requests")?,
        ..Told::default()
    };
    if !row.text("amount").is_empty() {
        let currency = match row.text("currency") {
            "" => "USD".to_owned(),
            code => code.to_uppercase(),
        };
        told.amounts.insert(currency, row.amount("amount")?);
    }
    Ok((row.day("date")?, row.text("model").to_owned(), told))
}
