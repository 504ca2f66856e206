//! What the documentation shows runs, and gives what it says.
//!
//! On a page, a block of SQL with a block of text behind it is a query with its answer, run by the command after all definitions above
//! it; one without is such definitions.

use libtest_mimic::Trial;

use crate::harness::folder;
use crate::process::{command, ended};

const PAGES: &[&str] = &["forecast.md", "match_recognize.md", "models.md"];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |page: &'static str| {
        Trial::test(format!("guide::the_examples_of_{}_run", page.trim_end_matches(".md")), move || Ok(check(page)?))
    };
    PAGES.iter().copied().map(trial).collect()
}

/// A block of code: its language, its text, the line at which it begins, and whether it follows the block before directly.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    line: usize,
    follows: bool,
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut ended) = (false, None);
    for (line, text) in page.lines().enumerate() {
        match (text.strip_prefix("```"), open) {
            (Some(language), false) => {
                let follows = ended == Some(line);
                blocks.push(Block { language: language.to_owned(), text: String::new(), line: line + 1, follows });
                open = true;
            }
            (Some(_), true) => (open, ended) = (false, Some(line + 1)),
            (None, true) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(text);
                block.text.push('\n');
            }
            (None, false) => {}
        }
    }
    blocks
}

fn check(page: &str) -> Result<(), String> {
    let path = folder("../docs").join(page);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let blocks = blocks(&text);
    let (mut definitions, mut answers) = (String::new(), 0);
    for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sql") {
        match blocks.get(index + 1).filter(|next| next.follows && next.language == "text") {
            None => definitions.push_str(&block.text),
            Some(answer) => {
                // As a reader would, from the root of the repository.
                let text = format!("{definitions}{}", block.text);
                let shown =
                    ended(command(&["run", "-e", &text]).current_dir(folder("..")).stdin(std::process::Stdio::null()));
                let shown = shown.ok().map_err(|error| format!("{page}:{}: {error}", block.line))?.stdout;
                if shown != answer.text {
                    return Err(format!("{page}:{}: this shows\n{shown}and not\n{}", block.line, answer.text));
                }
                answers += 1;
            }
        }
    }
    match answers {
        0 => Err(format!("{page} has no example with its answer")),
        _ => Ok(()),
    }
}
