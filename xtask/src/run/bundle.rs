//! `cargo xtask images --bundle FILE` and `--from-bundle FILE`: images carried to another machine.
//!
//! A bundle is used for what it is worth here: an image counts only if its key is the one this
//! checkout's plan wants. A machine that never built anything holds no base images, so their ids
//! are those of the bundle's own builds; every other part of the key is taken from this checkout.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use crate::cli;
use crate::context::record;
use crate::engine::{Bundle, Facts, List, Packed};
use crate::error::{ErrorExt as _, Exit};
use crate::event::{Event, PlannedImage, PlannedRun, Summary, seconds};
use crate::plan::{self, Action, Now};
use crate::run::build::{RunContext, told};
use crate::run::decision::check;
use crate::run::evaluate::{self, Evaluation, ImageState};
use crate::session::{Run, Session, Workspace};
use crate::text::{bytes, plural, some};

/// Differences named before they are counted.
const REASONS: usize = 20;

/// Writes the images called `names`, which have just been brought up to date.
pub(crate) fn write(common: RunContext, names: &[String], file: &Path) -> Result<()> {
    let RunContext { workspace, run, evaluation: before, .. } = common;
    let reasons: BTreeMap<&str, Vec<String>> = before
        .images
        .iter()
        .map(|one| (one.image.name.as_str(), one.planned.reasons.iter().map(ToString::to_string)))
        .map(|(name, reasons)| (name, reasons.collect()))
        .collect();
    let evaluation = evaluate::evaluate(workspace, names, false)?;
    let mut packed = Vec::new();
    for one in &evaluation.images {
        let name = one.image.name.as_str();
        let held = one.held.as_ref().filter(|_| one.planned.action == Action::Skip);
        let Some(held) = held else {
            let what = "failed to write the bundle: files of image";
            return Err(anyhow!("{what} `{name}` changed meanwhile")).hint("run it again");
        };
        let key = one.planned.key.to_string();
        let record = record::read(&workspace.paths.record(name));
        packed.push(Packed {
            name: name.to_owned(),
            tag: one.planned.tag.clone(),
            id: held.id.clone(),
            reasons: reasons.get(name).cloned().unwrap_or_default(),
            record: record.filter(|record| record.key == key),
            key,
        });
    }
    run.step(
        "bundle",
        |()| None,
        || {
            let bundle = workspace.engine.write_bundle(&List::new(packed), file)?;
            let images = plural(bundle.list.images.len() as u64, "image");
            let (file, size, sha256) = (file.display(), bytes(bundle.size), &bundle.sha256);
            run.events.note(format!("{file}: {images}, {size}, sha256 {sha256}"));
            Ok(())
        },
    )
}

/// Loads what is missing of the images called `names`; with `--check`, what then is still to be
/// built fails.
pub(crate) fn load(
    session: &Session,
    workspace: &Workspace,
    names: &[String],
    args: &cli::Images,
    file: &Path,
) -> Result<Exit> {
    let started = Instant::now();
    let evaluation = evaluate::evaluate(workspace, names, false)?;
    let run = session.begin(&workspace.paths)?;
    let facts = workspace.engine.facts(&workspace.paths.engine_facts())?;
    let bundle = run.step(
        "read the bundle",
        |_| None,
        || {
            let bundle = Bundle::open(file)?;
            args.sha256.iter().try_for_each(|sha256| bundle.expect(sha256))?;
            right_platforms(&bundle, workspace, &facts)?;
            Ok(bundle)
        },
    )?;
    let wanted = choose(workspace, &run, &bundle, &evaluation);
    if !wanted.is_empty() {
        send(workspace, &run, &bundle, &facts, &wanted)?;
    }
    let evaluation = evaluate::evaluate(workspace, names, false)?;
    let ready = evaluation.images.iter().filter(|one| one.planned.action == Action::Skip).count();
    run.events.emit(Event::Summary(Summary {
        ok: true,
        skipped: ready,
        loaded: wanted.len(),
        seconds: seconds(started.elapsed()),
        ..Summary::default()
    }));
    Ok(if args.check { check(&evaluation) } else { Exit::Done })
}

/// An image for another platform would run nowhere here: the bundle is not for this machine.
fn right_platforms(bundle: &Bundle, workspace: &Workspace, facts: &Facts) -> Result<()> {
    for (name, image) in &workspace.config.images {
        let wanted = image.platform.as_deref().unwrap_or(&facts.platform);
        let Some((_, platform)) = bundle.image(name) else { continue };
        // The variant is often left out: `linux/arm64` is `linux/arm64/v8`.
        let same = wanted.split('/').zip(platform.split('/')).all(|(one, other)| one == other);
        ensure!(
            same,
            "failed to use the bundle `{}`: image `{name}` is for {platform}, this machine wants {wanted}",
            bundle.path.display()
        );
    }
    Ok(())
}

/// Those of the bundle's images that are missing here and are what this checkout wants. Says what
/// is left.
fn choose<'a>(
    workspace: &Workspace,
    run: &Run,
    bundle: &'a Bundle,
    evaluation: &Evaluation,
) -> Vec<&'a Packed> {
    let known = |image: &&Packed| workspace.config.images.contains_key(&image.name);
    for image in bundle.list.images.iter().filter(|image| !known(image)) {
        run.events.note(format!("{} is in the bundle and not in this configuration", image.name));
    }
    let (mut wanted, mut plan) = (Vec::new(), Vec::new());
    for one in &evaluation.images {
        let name = &one.image.name;
        let told = told(&one.planned);
        match bundle.image(name) {
            _ if one.planned.action == Action::Skip => plan.push(told),
            Some((image, _)) if is_wanted(one, image, &evaluation.base_ids()) => {
                let (key, tag) = (image.key.clone(), image.tag.clone());
                let reasons = vec!["in the bundle".to_owned()];
                plan.push(PlannedImage { key, tag, action: "load", reasons, ..told });
                wanted.push(image);
            }
            Some((image, _)) => stale(run, one, image),
            None => run.events.warn(format!("{name} is not in the bundle"), None),
        }
    }
    run.events.emit(Event::Plan(PlannedRun { images: plan, ..PlannedRun::default() }));
    wanted
}

/// Whether this checkout would build that very image, on the bases that the engine holds or, where
/// it holds none, those of the bundle.
fn is_wanted(one: &ImageState, image: &Packed, held: &BTreeMap<String, String>) -> bool {
    let as_packed = image.record.as_ref().map(|record| evaluate::with_bases(held, record));
    let parts = as_packed.map(|bases| one.context.parts(&bases));
    parts.as_ref().unwrap_or(&one.parts).key().to_string() == image.key
}

/// Says what is different. Nothing of what is not used is kept.
fn stale(run: &Run, one: &ImageState, image: &Packed) {
    let name = &one.image.name;
    let mut why = String::from("it is not known what from");
    if let Some(record) = &image.record {
        let context = &one.context;
        let (parts, ignore) = (one.parts.clone(), context.ignore());
        let now = Now { parts, ignore, files: context.files() };
        why = some(&plan::diff(record, &now), REASONS);
    }
    let hint = "cargo xtask images --prebuild --bundle FILE".to_owned();
    run.events.warn(format!("the bundle's {name} is stale and not used: {why}"), Some(hint));
}

fn send(
    workspace: &Workspace,
    run: &Run,
    bundle: &Bundle,
    facts: &Facts,
    wanted: &[&Packed],
) -> Result<()> {
    let started = Instant::now();
    let names: Vec<&str> = wanted.iter().map(|image| image.name.as_str()).collect();
    let images: Vec<String> = wanted.iter().map(|image| image.tag.clone()).collect();
    let engine = &workspace.engine;
    run.events.emit(Event::LoadStarted {
        images: images.clone(),
        nodes: vec![engine.name().to_owned()],
        bytes: Some(bundle.bytes_of(&names)),
    });
    let loaded = engine.load_bundle(bundle, &names, facts, &run.paths.log("load"));
    run.events.emit(Event::LoadFinished {
        images,
        loaded: loaded.as_ref().map_or(0, Vec::len),
        ok: loaded.is_ok(),
        seconds: seconds(started.elapsed()),
    });
    loaded?;
    for image in wanted {
        if let Some(record) = &image.record {
            record::write(&workspace.paths.record(&image.name), record)?;
        }
    }
    Ok(())
}
