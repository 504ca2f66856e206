//! A report as Markdown.

use std::fmt::Write as _;

use super::{Report, tables};

pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "# {} on eagre {}\n\n{}, seed {}\n\n```\n{}\n```\n",
        report.layout.title, report.version, report.machine, report.seed, report.command
    );
    for (title, meaning, columns, figures) in tables(report) {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let _ =
            write!(text, "\n## {title}\n\n{meaning}\n\n| {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for figure in figures {
            let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(figure).replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    if !report.refused.is_empty() {
        text.push_str("\n## Did not run\n\n");
        for refused in &report.refused {
            let _ = writeln!(text, "- {}: {}", refused.query, refused.reason);
        }
    }
    let _ = write!(text, "\n## Peers\n\nIn {}, on {}.\n\n", report.peers.unit, report.peers.machine);
    for peer in &report.peers.peers {
        let _ = writeln!(text, "- {} ({}): {}", peer.name, peer.version, peer.what);
    }
    text
}
