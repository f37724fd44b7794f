//! `turnpike audit --invoice`: the books beside a vendor's bill, day by day and model by model.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};

use super::super::{books::shown, flags::BadUsage, remote::Server, usage};
use crate::{
    admin::api::{BillAnswer, BillLine, BillNumber, Decimal, UsageAnswer, UsageLine},
    base::money::{Currency, NANO},
    ledger::report::{
        csv::read_nano,
        invoice::{Compared, Invoice, Key, Pair, Told, Tolerance, compare, read},
    },
};

/// The largest file, in bytes: some millions of lines.
const LARGEST: u64 = 512 << 20;

/// Which bill, and how it is compared.
#[derive(Debug, clap::Args)]
pub(super) struct Bill {
    /// Compare the books with a vendor's export by day and model: OpenAI (usage, costs), DeepSeek (amount, cost),
    /// DashScope (bill details), or `date,model,input_tokens,cached_input_tokens,output_tokens,amount,currency`.
    #[arg(long, value_name = "FILE")]
    invoice: Option<PathBuf>,
    /// The backend whose bill it is; several if they are on one bill.
    #[arg(long, value_name = "NAME", requires = "invoice")]
    backend: Vec<String>,
    /// The provider whose bill it is.
    #[arg(long, value_name = "NAME", requires = "invoice")]
    provider: Vec<String>,
    /// The account whose bill it is.
    #[arg(long, value_name = "NAME", requires = "invoice")]
    account: Vec<String>,
    /// By how much both may differ: a share of the bill (`0.5%`) or an amount (`0.01 USD`).
    #[arg(long, value_name = "MUCH", requires = "invoice")]
    tolerance: Option<String>,
    /// Whose calendar the bill's days are of; that of the vendor unless named.
    #[arg(long, requires = "invoice")]
    zone: Option<String>,
}

impl Bill {
    /// Prints the comparison and tells whether both agree; `None` when no bill was named.
    pub(super) fn compared(&self, server: &Server, as_json: bool) -> anyhow::Result<Option<bool>> {
        let Some(file) = &self.invoice else { return Ok(None) };
        let tolerance = self.tolerance()?;
        let name = file.display();
        let size = std::fs::metadata(file).with_context(|| format!("`{name}` cannot be read"))?.len();
        if size > LARGEST {
            bail!("`{name}` is larger than 512 MiB\nhint: split it by month");
        }
        let text = std::fs::read(file).with_context(|| format!("`{name}` cannot be read"))?;
        let invoice = read(&String::from_utf8_lossy(&text)).with_context(|| format!("`{name}`"))?;
        let books = self.books(server, &invoice)?;
        let lines = compare(&books, &invoice, tolerance);
        let differ = lines.iter().filter(|line| !line.agrees()).count();
        if as_json {
            anstream::println!("{}", serde_json::to_string_pretty(&answer(&invoice, &lines, differ))?);
        } else {
            print(&invoice, &lines, differ);
        }
        Ok(Some(differ == 0))
    }

    fn tolerance(&self) -> anyhow::Result<Tolerance> {
        let Some(text) = &self.tolerance else { return Ok(Tolerance::default()) };
        let wrong = || BadUsage(format!("`--tolerance {text}` is neither\nhint: write `0.5%` or `0.01 USD`"));
        if let Some(share) = text.trim().strip_suffix('%') {
            let hundredths = read_nano(share).filter(|share| (0..=100_000_000_000).contains(share));
            let ppm = hundredths.and_then(|nano| u32::try_from(nano / 100_000).ok()).ok_or_else(wrong)?;
            return Ok(Tolerance { ppm, nano: 0 });
        }
        let amount = text.trim().trim_end_matches(|letter: char| letter.is_ascii_uppercase());
        let nano = read_nano(amount).filter(|nano| *nano >= 0 && amount != text.trim()).ok_or_else(wrong)?;
        Ok(Tolerance { ppm: 0, nano })
    }

    /// What the books say of the bill's days.
    fn books(&self, server: &Server, invoice: &Invoice) -> anyhow::Result<BTreeMap<Key, Told>> {
        let days = invoice.lines.keys().map(|(day, _)| day);
        let (Some(first), Some(last)) = (days.clone().min(), days.max()) else {
            bail!("the bill has no lines to compare");
        };
        let last: jiff::civil::Date = last.parse().context("the bill's last day")?;
        let zone = self.zone.as_deref().unwrap_or(invoice.shape.zone());
        let single = [
            ("by", "day,upstream".to_owned()),
            ("since", first.clone()),
            ("until", last.tomorrow()?.to_string()),
            ("zone", zone.to_owned()),
        ];
        let many = [("backend", &self.backend), ("provider", &self.provider), ("account", &self.account)];
        let many = many.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        let pairs: Vec<_> = single.into_iter().chain(many).map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(by_day_and_model(&usage::ask(server, &pairs)?))
    }
}

fn by_day_and_model(answer: &UsageAnswer) -> BTreeMap<Key, Told> {
    let line = |line: &UsageLine| {
        let value = |name: &str| line.group.get(name).cloned().unwrap_or_default();
        let told = Told {
            input: Some(line.input_tokens),
            cached: Some(line.cached_input_tokens),
            output: Some(line.output_tokens),
            // A vendor counts every attempt.
            requests: Some(line.attempts),
            amounts: line.native.iter().map(|(currency, amount)| (currency.clone(), amount.nano())).collect(),
        };
        ((value("day"), value("upstream")), told)
    };
    answer.lines.iter().map(line).collect()
}

fn is_amount(pair: &Pair) -> bool {
    Currency::parse(&pair.what).is_some()
}

fn written(pair: &Pair, number: i128) -> Decimal {
    if is_amount(pair) { Decimal::from_nano(number) } else { Decimal::from_nano(number.saturating_mul(NANO.into())) }
}

fn answer(invoice: &Invoice, lines: &[Compared], differ: usize) -> BillAnswer {
    let number = |pair: &Pair| BillNumber {
        what: pair.what.clone(),
        books: written(pair, pair.books),
        bill: written(pair, pair.bill),
        difference: written(pair, pair.books - pair.bill),
        agree: pair.agree,
    };
    let line = |line: &Compared| BillLine {
        day: line.day.clone(),
        model: line.model.clone(),
        agree: line.agrees(),
        numbers: line.pairs.iter().map(number).collect(),
    };
    let bill = invoice.shape.as_str().to_owned();
    BillAnswer { bill, agree: differ == 0, differ, lines: lines.iter().map(line).collect() }
}

fn print(invoice: &Invoice, lines: &[Compared], differ: usize) {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["day", "model", "", "books", "bill", "books − bill"]);
    for line in lines.iter().filter(|line| !line.agrees()) {
        for pair in line.pairs.iter().filter(|pair| !pair.agree) {
            let numbers =
                [pair.books, pair.bill, pair.books - pair.bill].map(|number| written(pair, number).to_string());
            let names = [shown(&line.day), shown(&line.model), pair.what.clone()];
            table.add_row(names.into_iter().chain(numbers));
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if differ > 0 {
        anstream::println!("{table}");
    }
    let bill = invoice.shape.as_str();
    anstream::println!("{bill}: {} of {} days and models agree with the books", lines.len() - differ, lines.len());
}
