//! `docs/cove-choices.md` says what the tables of `tsmsim_abi::cove::claims` say.

use tsmsim_abi::cove::claims::{CHOICES, OPEN_LABELS};

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn tables() -> [Vec<String>; 2] {
    let label = |open: &tsmsim_abi::cove::claims::OpenLabel| {
        format!("| `{}` | {} | {} |", open.name, open.token, open.label)
    };
    let choice = |choice: &tsmsim_abi::cove::claims::Choice| {
        format!("| {} | {} | {} |", cell(choice.what), cell(choice.choice), cell(choice.reason))
    };
    [OPEN_LABELS.iter().map(label).collect(), CHOICES.iter().map(choice).collect()]
}

#[test]
fn the_page_has_every_label_and_choice_in_order_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cove-choices.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let mut found = [Vec::new(), Vec::new()];
    let mut table = 0;
    for line in page.lines() {
        if line.starts_with("|---") {
            table += 1;
        } else if line.starts_with("| ") && !line.starts_with("| claim |") && !line.starts_with("| open |") {
            found[table - 1].push(line.to_owned());
        }
    }
    let expected = tables();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.join("\n"), expected.join("\n"));
    }
}
