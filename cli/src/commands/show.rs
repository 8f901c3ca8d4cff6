//! `tsmsim show`: any evidence or certificate, field by field.

use std::path::Path;

use tsmsim_evidence::{
    read_file,
    show::{Kind, detect, show},
    snp::{Bundle, Policy, svg, verify, verify_chain},
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
    write_file(picture, svg(&bundle, &verdict).as_bytes())?;
    print(&format!("{}: {}\n", picture.display(), verdict.summary()));
    Ok(())
}
