//! Lists the files that a build of a folder would be sent: `list FOLDER [DOCKERFILE]`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use dockerignore::{Rules, State};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let context = args.next().ok_or("usage: list FOLDER [DOCKERFILE]")?;
    let context = Path::new(&context);
    let dockerfile = args.next();
    let file = dockerignore::find(context, dockerfile.as_deref().map(Path::new))?;
    let text = file.map(|file| file.text).unwrap_or_default();
    let rules = Rules::parse(&text).map_err(|errors| errors[0].clone())?;
    list(context, context, &rules, &rules.root())
}

fn list(context: &Path, folder: &Path, rules: &Rules, above: &State) -> Result<(), Box<dyn Error>> {
    let mut entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        let file = entry.path();
        let path = file.strip_prefix(context)?;
        let verdict = rules.test(above, path.as_os_str().as_bytes())?;
        if entry.file_type()?.is_dir() {
            if !verdict.ignored || rules.may_hold_kept(path.as_os_str().as_bytes(), &verdict.state)
            {
                list(context, &file, rules, &verdict.state)?;
            }
        } else if !verdict.ignored {
            println!("{}", path.display());
        }
    }
    Ok(())
}
