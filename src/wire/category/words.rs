//! Words and phrases that speak for a category. The lists are by hand, from what people ask; English and Chinese.

use std::ops::Range;

use memchr::memmem;

use super::Points;
use crate::base::facts::Category::{self, Chat, Code, Data, Instructions, Knowledge, Language, Math, Reasoning};

/// The longest word of [`WORDS`]; a key has room for 16.
const LONGEST: usize = 13;

/// Words in lower case, each once.
#[rustfmt::skip]
pub(super) const WORDS: [(&str, Category, u32); 286] = [
    ("according", Knowledge, 2), ("algebra", Math, 2), ("algorithm", Code, 2), ("altogether", Math, 2),
    ("api", Code, 2), ("argument", Reasoning, 2), ("array", Code, 2), ("assert", Code, 2), ("async", Code, 3),
    ("average", Math, 1), ("avoid", Instructions, 2), ("bash", Code, 3), ("bisector", Math, 3),
    ("blog", Language, 3), ("boolean", Code, 2), ("brainteaser", Reasoning, 4), ("bug", Code, 2),
    ("bullet", Instructions, 3), ("bullets", Instructions, 3), ("buys", Math, 1), ("bytes", Code, 2),
    ("calculate", Math, 2), ("calculus", Math, 2), ("called", Knowledge, 1), ("capital", Knowledge, 3),
    ("cargo", Code, 3), ("cause", Knowledge, 1), ("cells", Knowledge, 2), ("cents", Math, 2),
    ("century", Knowledge, 2), ("chart", Data, 3), ("circumference", Math, 3), ("class", Code, 2),
    ("clinical", Knowledge, 2), ("clue", Reasoning, 2), ("clues", Reasoning, 2), ("code", Code, 2),
    ("codebase", Code, 3), ("coding", Code, 2), ("column", Data, 3), ("columns", Data, 3), ("compile", Code, 3),
    ("compiler", Code, 3), ("compute", Math, 2), ("const", Code, 3), ("contradiction", Reasoning, 2),
    ("coordinates", Math, 2), ("correlation", Data, 2), ("cost", Math, 2), ("costs", Math, 2),
    ("court", Knowledge, 2), ("css", Code, 3), ("csv", Data, 4), ("dataframe", Data, 4), ("dataset", Data, 4),
    ("day", Math, 1), ("days", Math, 1), ("debug", Code, 3), ("deduce", Reasoning, 4), ("def", Code, 3),
    ("defendant", Knowledge, 2), ("denominator", Math, 2), ("derivative", Math, 3), ("describes", Knowledge, 2),
    ("discovered", Knowledge, 2), ("divisible", Math, 3), ("dockerfile", Code, 3), ("dollar", Math, 2),
    ("dollars", Math, 2), ("each", Math, 1), ("earn", Math, 1), ("effect", Knowledge, 1), ("eigenvalue", Math, 3),
    ("elif", Code, 3), ("email", Language, 3), ("endpoint", Code, 2), ("ensure", Instructions, 2), ("enum", Code, 3),
    ("equation", Math, 3), ("equations", Math, 3), ("error", Code, 1), ("essay", Language, 4), ("every", Math, 1),
    ("exactly", Instructions, 3), ("example", Knowledge, 1), ("excel", Data, 4), ("exception", Code, 2),
    ("factorial", Math, 3), ("fallacy", Reasoning, 2), ("file", Code, 1), ("following", Knowledge, 1),
    ("formal", Language, 2), ("format", Instructions, 2), ("fraction", Math, 2), ("function", Code, 2),
    ("geometry", Math, 2), ("github", Code, 3), ("golang", Code, 3), ("grammar", Language, 4),
    ("haiku", Language, 4), ("half", Math, 1), ("haskell", Code, 3), ("headline", Language, 3), ("hello", Chat, 2),
    ("hey", Chat, 2), ("hi", Chat, 2), ("histogram", Data, 3), ("history", Knowledge, 2), ("hours", Math, 2),
    ("houses", Reasoning, 2), ("html", Code, 3), ("hypotenuse", Math, 3), ("implement", Code, 1),
    ("import", Code, 2), ("include", Instructions, 2), ("infer", Reasoning, 2), ("inference", Reasoning, 2),
    ("input", Code, 1), ("int", Code, 2), ("integer", Code, 2), ("integers", Math, 2), ("integral", Math, 3),
    ("invented", Knowledge, 3), ("java", Code, 3), ("javascript", Code, 3), ("json", Code, 2),
    ("knaves", Reasoning, 4), ("knights", Reasoning, 4), ("known", Knowledge, 1), ("kotlin", Code, 3),
    ("kubernetes", Code, 3), ("lambda", Code, 2), ("leetcode", Code, 3), ("left", Math, 1), ("lemma", Math, 3),
    ("letter", Language, 2), ("library", Code, 2), ("likely", Knowledge, 2), ("limit", Instructions, 1),
    ("list", Code, 1), ("logarithm", Math, 3), ("logic", Reasoning, 2), ("logical", Reasoning, 2), ("loop", Code, 1),
    ("lowercase", Instructions, 3), ("lyrics", Language, 3), ("many", Math, 1), ("matrix", Math, 3),
    ("median", Data, 2), ("method", Code, 2), ("miles", Math, 2), ("minutes", Math, 2), ("modulo", Math, 3),
    ("more", Math, 1), ("movie", Knowledge, 1), ("mph", Math, 2), ("much", Math, 1), ("must", Instructions, 2),
    ("named", Knowledge, 1), ("npm", Code, 3), ("nullptr", Code, 3), ("number", Math, 1), ("only", Instructions, 2),
    ("outliers", Data, 2), ("output", Code, 1), ("pandas", Data, 4), ("paragraph", Language, 3),
    ("paraphrase", Language, 5), ("parse", Code, 1), ("patient", Knowledge, 2), ("per", Math, 1),
    ("percent", Math, 2), ("perimeter", Math, 2), ("perpendicular", Math, 2), ("php", Code, 3), ("pivot", Data, 3),
    ("played", Knowledge, 1), ("poem", Language, 4), ("polite", Language, 2), ("polynomial", Math, 3),
    ("population", Knowledge, 2), ("pounds", Math, 2), ("premise", Reasoning, 2), ("premises", Reasoning, 2),
    ("president", Knowledge, 2), ("price", Math, 1), ("printf", Code, 3), ("println", Code, 3),
    ("probability", Math, 2), ("product", Math, 2), ("program", Code, 2), ("programming", Code, 2),
    ("proofread", Language, 5), ("protein", Knowledge, 2), ("prove", Math, 2), ("puzzle", Reasoning, 4),
    ("pytest", Code, 3), ("python", Code, 3), ("quadratic", Math, 3), ("query", Code, 1), ("radius", Math, 2),
    ("ratio", Math, 2), ("recursion", Code, 2), ("refactor", Code, 3), ("refers", Knowledge, 2), ("regex", Code, 3),
    ("regression", Data, 3), ("remainder", Math, 2), ("rephrase", Language, 3), ("respond", Instructions, 2),
    ("return", Code, 2), ("rewrite", Language, 4), ("riddle", Reasoning, 4), ("rows", Data, 3),
    ("rules", Instructions, 1), ("runtime", Code, 2), ("rust", Code, 3), ("sang", Knowledge, 1), ("script", Code, 2),
    ("segfault", Code, 3), ("sentence", Language, 2), ("server", Code, 1), ("sold", Math, 1), ("solve", Math, 2),
    ("song", Knowledge, 1), ("species", Knowledge, 2), ("speech", Language, 2), ("spelling", Language, 3),
    ("spend", Math, 1), ("spreadsheet", Data, 4), ("sql", Code, 3), ("stacktrace", Code, 3),
    ("statement", Knowledge, 2), ("stdout", Code, 3), ("steps", Instructions, 1), ("story", Language, 3),
    ("strictly", Instructions, 2), ("string", Code, 2), ("struct", Code, 3), ("style", Language, 2),
    ("substring", Code, 2), ("sum", Math, 2), ("summarise", Language, 4), ("summarize", Language, 4),
    ("summary", Language, 3), ("supreme", Knowledge, 2), ("swift", Code, 3), ("syllogism", Reasoning, 4),
    ("symptoms", Knowledge, 2), ("synonym", Language, 3), ("table", Data, 2), ("tabular", Data, 3),
    ("than", Math, 1), ("thanks", Chat, 2), ("theorem", Math, 3), ("times", Math, 2), ("tone", Language, 3),
    ("total", Math, 2), ("traceback", Code, 3), ("translate", Language, 5), ("translation", Language, 5),
    ("translator", Language, 3), ("treaty", Knowledge, 2), ("triangle", Math, 3), ("tuple", Code, 2),
    ("tweet", Language, 2), ("twice", Math, 2), ("typescript", Code, 3), ("unittest", Code, 3),
    ("uppercase", Instructions, 3), ("variable", Code, 2), ("verbatim", Instructions, 3), ("week", Math, 1),
    ("what", Knowledge, 1), ("when", Knowledge, 2), ("where", Knowledge, 2), ("which", Knowledge, 1),
    ("who", Knowledge, 3), ("whom", Knowledge, 3), ("why", Knowledge, 1), ("wording", Language, 2),
    ("words", Instructions, 2), ("write", Language, 2), ("wrote", Knowledge, 2), ("xlsx", Data, 4),
    ("yaml", Code, 2),
];

/// Phrases in languages that put no spaces between words.
const PHRASES: [(&str, Category, u32); 40] = [
    ("代码", Code, 4),
    ("函数", Code, 2),
    ("编程", Code, 4),
    ("算法", Code, 2),
    ("程序", Code, 2),
    ("报错", Code, 3),
    ("接口", Code, 2),
    ("数据库", Code, 2),
    ("脚本", Code, 3),
    ("编写", Code, 1),
    ("计算", Math, 2),
    ("方程", Math, 4),
    ("证明", Math, 3),
    ("求解", Math, 3),
    ("多少", Math, 2),
    ("概率", Math, 3),
    ("积分", Math, 3),
    ("数学", Math, 4),
    ("三角形", Math, 3),
    ("翻译", Language, 6),
    ("润色", Language, 6),
    ("改写", Language, 5),
    ("作文", Language, 4),
    ("总结", Language, 4),
    ("摘要", Language, 4),
    ("诗", Language, 3),
    ("语法", Language, 3),
    ("推理", Reasoning, 4),
    ("逻辑", Reasoning, 3),
    ("谜语", Reasoning, 5),
    ("表格", Data, 4),
    ("数据集", Data, 4),
    ("统计", Data, 2),
    ("图表", Data, 4),
    ("以下哪", Knowledge, 5),
    ("下列", Knowledge, 4),
    ("历史", Knowledge, 2),
    ("哪一年", Knowledge, 5),
    ("是谁", Knowledge, 4),
    ("什么是", Knowledge, 4),
];

/// A word as two numbers, a byte a letter, the first one lowest. All are as wide as a register: a prompt has hundreds of
/// words, and most are in no list.
type Key = [u64; 2];

const fn key(word: &[u8]) -> Key {
    let (mut key, mut at) = ([0; 2], 0);
    while at < word.len() {
        key[at / 8] |= ((word[at] | 0x20) as u64) << (8 * (at % 8));
        at += 1;
    }
    key
}

/// The bits that a word of so many letters has in its key.
static MASKS: [Key; LONGEST + 1] = {
    let (mut masks, mut length) = ([[0; 2]; LONGEST + 1], 0);
    while length <= LONGEST {
        masks[length] = key([0xff; LONGEST].split_at(length).0);
        length += 1;
    }
    masks
};

static KEYS: [Key; WORDS.len()] = {
    let (mut keys, mut at) = ([[0; 2]; WORDS.len()], 0);
    while at < WORDS.len() {
        keys[at] = key(WORDS[at].0.as_bytes());
        at += 1;
    }
    keys
};

/// Slots of the hash table over [`WORDS`]: about a quarter is used, so that a search rarely looks at a second one.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

/// The places of the words plus one by hash; 0 is an empty slot.
static TABLE: [u16; SLOTS] = table();

const fn table() -> [u16; SLOTS] {
    let (mut table, mut at) = ([0; SLOTS], 0);
    while at < WORDS.len() {
        let mut slot = slot(key(WORDS[at].0.as_bytes()));
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        at += 1;
        table[slot] = at as u16;
    }
    table
}

/// Multiplicative hashing; the factor is 2^64 divided by the golden ratio, made odd.
const fn slot(key: Key) -> usize {
    ((key[0] ^ key[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize
}

/// Adds the points of the phrases in `text`.
pub(super) fn read_phrases(text: &str, points: &mut Points) {
    if text.is_ascii() {
        return;
    }
    for (phrase, category, worth) in PHRASES {
        if memmem::find(text.as_bytes(), phrase.as_bytes()).is_some() {
            points.add(category, worth);
        }
    }
}

/// Adds the points of the word at `place`, whose bytes are ASCII letters.
pub(super) fn read_word(bytes: &[u8], place: Range<usize>, points: &mut Points) {
    let Some(mask) = MASKS.get(place.len()) else { return };
    // Two loads where sixteen bytes are left, as nearly always.
    let key = match bytes[place.start..].first_chunk::<16>() {
        Some(sixteen) => {
            let (first, second) = (u128::from_le_bytes(*sixteen) as u64, (u128::from_le_bytes(*sixteen) >> 64) as u64);
            let small = u64::from_le_bytes([0x20; 8]);
            [(first | small) & mask[0], (second | small) & mask[1]]
        }
        None => key(&bytes[place]),
    };
    let mut slot = slot(key);
    while let Some(place) = TABLE[slot].checked_sub(1).map(usize::from) {
        if KEYS[place] == key {
            return points.add(WORDS[place].1, WORDS[place].2);
        }
        slot = (slot + 1) % SLOTS;
    }
}
