//! Lists what a Dockerfile's target reads: `reads DOCKERFILE [TARGET]`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::error::Error;

use dockerfile::{Platform, Request, Sources};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: reads DOCKERFILE [TARGET]")?;
    let target = args.next();
    let platform = Platform { os: "linux".into(), arch: "amd64".into(), variant: String::new() };
    let request = Request {
        target: target.as_deref(),
        args: &BTreeMap::new(),
        platform: platform.clone(),
        build_platform: platform,
        base: &|_| None,
    };
    let reading = dockerfile::read(&fs_err::read(&file)?, &request).map_err(|faults| {
        let lines = faults.iter().map(|fault| format!("{file}:{}: {}", fault.line, fault.message));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    for base in &reading.bases {
        println!("image   {} (line {})", base.name, base.line);
    }
    match &reading.sources {
        Sources::Whole { reason, line } => println!("all     {reason} (line {line})"),
        Sources::Paths(sources) => {
            for source in sources {
                let pattern = Some(source.whole_pattern()).filter(|pattern| !pattern.is_empty());
                println!("context {} (line {})", pattern.as_deref().unwrap_or("."), source.line);
            }
        }
    }
    Ok(())
}
