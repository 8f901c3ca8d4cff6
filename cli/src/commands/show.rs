//! `tsmsim show`: any evidence or certificate, field by field.

use std::path::Path;

use tsmsim_evidence::{
    cove, read_file,
    show::{Kind, detect, show},
    snp::{Bundle, Policy, svg, verify, verify_chain},
    tdx,
};

use crate::{
    args::ShowArgs,
    commands::verify::now,
    failure::Failure,
    output::{print, print_json, write_file},
};

/// Runs the command.
pub(crate) fn run(args: &ShowArgs) -> Result<(), Failure> {
    let bytes = read_file(&args.file).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(picture) = &args.svg {
        return draw(&args.file, &bytes, picture);
    }
    let tree =
        show(&bytes, None).map_err(|error| Failure::Usage(format!("{}: {error}", args.file.display())))?;
    if args.json {
        print_json(&tree.to_json());
    } else {
        print(&tree.to_text());
    }
    Ok(())
}

/// Draws the chain that the file belongs to: the rest of it comes from the files beside it.
fn draw(file: &Path, bytes: &[u8], picture: &Path) -> Result<(), Failure> {
    let usage = |error: tsmsim_evidence::EvidenceError| Failure::Usage(error.to_string());
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if detect(bytes) == Kind::Quote {
        let bundle = tdx::Bundle::from_dir(directory).unwrap_or_default();
        let bundle = tdx::Bundle { quote: bytes.to_vec(), ..bundle };
        let verdict = tdx::verify(&bundle, &tdx::Policy::at(now()));
        return write_picture(picture, &tdx::svg(&bundle, &verdict), &verdict.summary());
    }
    if cove::is_evidence(bytes) {
        let bundle = cove::Bundle::from_dir(directory).unwrap_or_default();
        let bundle = cove::Bundle { evidence: bytes.to_vec(), ..bundle };
        let verdict = cove::verify(&bundle, &cove::Policy::at(now()));
        return write_picture(picture, &cove::svg(&bundle, &verdict), &verdict.summary());
    }
    let policy = Policy::at(now());
    let (bundle, verdict) = if detect(bytes) == Kind::SnpReport {
        let bundle = match Bundle::from_dir(directory) {
            Ok(bundle) => Bundle { report: bytes.to_vec(), ..bundle },
            Err(_) => Bundle { report: bytes.to_vec(), ..Bundle::default() },
        };
        let verdict = verify(&bundle, &policy);
        (bundle, verdict)
    } else {
        let mut bundle = Bundle::default();
        bundle.add_certificates(&file.display().to_string(), bytes).map_err(usage)?;
        let verdict = verify_chain(&bundle, &policy);
        (bundle, verdict)
    };
    write_picture(picture, &svg(&bundle, &verdict), &verdict.summary())
}

fn write_picture(path: &Path, picture: &str, summary: &str) -> Result<(), Failure> {
    write_file(path, picture.as_bytes())?;
    print(&format!("{}: {summary}\n", path.display()));
    Ok(())
}
