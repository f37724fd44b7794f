//! The heuristic on plain cases. Its accuracy on data is stated where it is defined.

use super::{Guess, Points, classify, runs, words};
use crate::base::facts::Category;

fn guess_of(texts: &[&str], tools: bool) -> Guess {
    let raw: Vec<String> = texts.iter().map(|text| serde_json::Value::from(*text).to_string()).collect();
    classify(raw.iter().map(String::as_str), tools)
}

fn sure(text: &str) -> Option<Category> {
    let guess = guess_of(&[text], false);
    guess.confident.then_some(guess.category)
}

#[test]
fn plain_cases_are_told_apart() {
    for (text, category) in [
        ("Why does this not compile?\n```rust\nfn main() { let x: u8 = 256; }\n```", Category::Code),
        ("Write a Python function that returns the nth Fibonacci number", Category::Code),
        ("用 Python 编写一个脚本, 代码要有注释", Category::Code),
        ("Solve the equation \\(x^2 - 5x + 6 = 0\\) and prove the result", Category::Math),
        ("Ann has 3 boxes with 12 apples each and sells 7 apples. How many apples are left in total?", Category::Math),
        ("求解方程 x+2=5", Category::Math),
        ("Translate this letter to German, in a polite tone", Category::Language),
        ("请把下面的话翻译成英文", Category::Language),
        ("Which is a mammal?\nA. trout\nB. whale\nC. hen\nD. newt", Category::Knowledge),
        ("Solve this riddle: two knights and a knave stand at a gate", Category::Reasoning),
        ("| a | b |\n|---|---|\n| 1 | 2 |\nWhat is the average of each column in this table?", Category::Data),
    ] {
        assert_eq!(sure(text), Some(category), "{text}");
    }
}

#[test]
fn what_could_be_anything_is_left_to_the_overall_ability() {
    for text in ["", "hello", "thanks, that was nice", "tell me more", "你好", "\u{0}\u{feff}"] {
        let guess = guess_of(&[text], false);
        assert!(!guess.confident, "{text}: {guess:?}");
    }
}

#[test]
fn tools_on_offer_speak_for_tools() {
    let guess = guess_of(&["what is the weather in Oslo?"], true);
    assert_eq!(guess, Guess { category: Category::Tools, confident: true });
}

#[test]
fn the_end_of_a_long_text_counts_and_its_middle_does_not() {
    let filler = "lorem ".repeat(20_000);
    let question = "Translate and proofread it";
    assert_eq!(sure(&format!("{filler}{question}")), Some(Category::Language));
    assert_eq!(sure(&format!("{filler}{question}{filler}")), None);
    assert_eq!(guess_of(&[&filler, question], false).category, Category::Chat);
}

#[test]
fn every_word_is_found_in_any_case() {
    assert!(words::WORDS.is_sorted_by(|a, b| a.0 < b.0), "no word stands twice");
    for (word, category, worth) in words::WORDS {
        let mut points = Points::default();
        let text = format!("xx-{}, x{word}", word.to_uppercase());
        runs::scan(text.as_bytes(), |word| words::read_word(text.as_bytes(), word, &mut points));
        assert_eq!(points.0[category as usize], worth, "{word}");
    }
}
