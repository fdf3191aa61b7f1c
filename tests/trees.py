"""Small corpora in the publishers' layouts: noise for audio, so that every sample can be told from every other."""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import soundfile
import yaml

from rnnt.corpora import common_voice

SOURCE = {"path": None, "url": None, "keep_archives": False, "allow_subset": True}


def noise(seconds, rate, channels=1, seed=0):
    """int16 samples [frames, channels]; `seed` is a number or a name."""
    random = np.random.default_rng([*str(seed).encode()])
    return random.integers(-8000, 8000, (round(seconds * rate), channels), dtype="int16")


def write(path, samples, rate, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)


def librispeech(root, split="test-other", speakers=("14", "16")):
    """Two chapters of two utterances; the samples by id."""
    made = {}
    for speaker in speakers:
        chapter = root / "LibriSpeech" / split / speaker / "100"
        lines = []
        for n in range(2):
            name = f"{speaker}-100-{n:04d}"
            made[name] = noise(1 + n, 16000, seed=name)
            write(chapter / f"{name}.flac", made[name], 16000)
            lines.append(f"{name} IT'S UTTERANCE {'ABC'[n]}")
        (chapter / f"{speaker}-100.trans.txt").write_text("\n".join(lines) + "\n")
    return made


def voice(root, **clips):
    """A few clips a split, two or what `clips` says, every other with a sentence in quotes."""
    folder = root / "cv-corpus-9.0-2022-04-27/en"
    made = {}
    for split in ("train", "dev", "test"):
        lines = ["\t".join(common_voice.COLUMNS)]
        for n in range(clips.get(split, 2)):
            name = f"common_voice_en_{len(made)}"
            made[name] = noise(1, 48000, seed=len(made))
            write(folder / f"clips/{name}.mp3", made[name], 48000, format="MP3")
            sentence = ('"""Good-bye,"" said the boy."', "Don’t go, “Ann”.")[n % 2]
            lines.append("\t".join([f"speaker{n}", f"{name}.mp3", sentence, "2", "0", "", "", "", "en", ""]))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def talk(folder, name, stm=None, seconds=10, lines=None, seed=0):
    """A talk of two segments and a gap that is not scored; its samples."""
    samples = noise(seconds, 16000, seed=seed)
    write(folder / f"sph/{name}.sph", samples, 16000, format="NIST", subtype="PCM_16")
    lines = lines or [
        f"{name} 1 inter_segment_gap 0.00 1.00 <o,,unknown> ignore_time_segment_in_scoring",
        f"{name} 1 {name} 1.00 4.50 <o,f0,male> it 's <unk> fine",
        f"{name} 1 {name} 4.40 9.25 <o,f0,male> so we don 't",
    ]
    (folder / "stm").mkdir(parents=True, exist_ok=True)
    (folder / f"stm/{stm or name}.stm").write_text("\n".join(lines) + "\n")
    return samples


def segments(name, count):
    """As many segments of 8 s, for a talk of them."""
    texts = ("it 's <unk> fine", "so we don 't")
    return [f"{name} 1 {name} {8 * n}.00 {8 * n + 8}.00 <o,f0,male> {texts[n % 2]}" for n in range(count)]


def tedlium(root, train=None):
    """A talk in each split; train's, of as many segments where that is given, is a link into data/."""
    base = root / "TEDLIUM_release-3"
    longer = {"seconds": 8 * train, "lines": segments("Ann_2009", train)} if train else {}
    made = {"Ann_2009": talk(base / "data", "Ann_2009", seed=1, **longer)}
    for kind in ("sph", "stm"):
        (base / "legacy/train" / kind).mkdir(parents=True)
        (base / "legacy/train" / kind / f"Ann_2009.{kind}").symlink_to(f"../../../data/{kind}/Ann_2009.{kind}")
    made["Bob_2010"] = talk(base / "legacy/dev", "Bob_2010", seed=2)
    made["Cyd_2011"] = talk(base / "legacy/test", "Cyd_2011", seed=3)
    return made


def telephone(path, seconds, seed):
    """A two-channel mu-law SPHERE file; its samples as they are read back, [frames, 2]."""
    write(path, noise(seconds, 8000, 2, seed), 8000, format="NIST", subtype="ULAW")
    return soundfile.read(path, dtype="int16")[0]


def switchboard(root):
    """Two conversations with the ISIP transcripts, LDC's table of speakers, and Hub5'00."""
    made = {}
    for n, disc in ((2001, "swb1_d1/data"), (2005, "SWB1_D2/DATA")):
        name = f"sw0{n}.sph" if n == 2001 else f"SW0{n}.SPH"
        made[f"sw0{n}"] = telephone(root / "LDC97S62" / disc / name, 12, n)
        for side in "AB":
            table = root / f"swb_ms98_transcriptions/20/{n}/sw{n}{side}-ms98-a-trans.text"
            table.parent.mkdir(parents=True, exist_ok=True)
            stem = f"sw{n}{side}-ms98-a"
            table.write_text(
                f"{stem}-0001 0.000000 0.977625 [silence]\n{stem}-0002 0.977625 4.561375 hi um [laughter-yeah] i'd\n"
                f"{stem}-0003 4.561375 6.000000 uh-huh\n{stem}-0004 6.000000 11.250000 westmin[ster]- them_1\n"
            )
    (root / "LDC97S62/conv_tab.csv").write_text('2001,"Y",1020,1044,303,0,910304\n2005,"Y",1033,1020,303,0,910304\n')
    lines = [";; header"]
    for name, text in (("en_4156", "(%HESITATION) REPLIED HE"), ("sw_4390", "UH-HUH (I-) AND HE")):
        made[name] = telephone(root / f"eval2000/LDC2002S09/hub5e_00/english/{name}.sph", 8, len(made))
        lines += [
            f"{name} A {name}_A 0.40 3.47 <O,en,F,en-F>  {text}",
            f"{name} B {name}_B 3.50 7.25 <O,en,F,en-F>  {text}",
            f"{name} B {name}_B 7.25 7.50 <O,en,M,en-M>  IGNORE_TIME_SEGMENT_IN_SCORING",
        ]
    stm = root / "eval2000/LDC2002T43/reference/hub5e00.english.000405.stm"
    stm.parent.mkdir(parents=True)
    stm.write_text("\n".join(lines) + "\n")
    (stm.parent / "en20000405_hub5.glm").write_text(";; fixture\n%UH  =>  %HESITATION / [ ] __ [ ]\n")
    return made


class Hub(NamedTuple):
    """How a data set lies on the Hub: what its configuration is called and where a split is, its columns beside the
    audio, and what is said in it."""

    config: str | None  # as its README.md lists it; None: there is no such list
    place: str
    row: Callable[[int, str], dict]
    said: tuple[str, ...]


HUB = {
    "openslr/librispeech_asr": Hub(
        "all",
        "all/{split}/0000.parquet",
        lambda n, text: {"file": f"{n}.flac", "text": text, "speaker_id": n % 2, "chapter_id": 7, "id": f"7-{n}"},
        ("HE'S GONE HOME BY NOW", "SHE READ THE OLD BOOK"),
    ),
    "edinburghcstr/ami": Hub(
        "ihm",
        "ihm/{split}-00000-of-00001.parquet",
        lambda n, text: {"meeting_id": "EN2001a", "audio_id": f"AMI_{n}", "text": text, "begin_time": 1.0 * n,
                         "end_time": n + 1.0, "microphone_id": "H00", "speaker_id": f"MEE{n % 2}"},
        ("YEAH THAT'S THE ONE", "MM-HMM I KNOW WHAT YOU MEAN"),
    ),
    "facebook/voxpopuli": Hub(
        None,
        "en/partial-{split}/0000.parquet",
        lambda n, text: {"audio_id": f"2009-{n}", "language": 0, "raw_text": text, "normalized_text": "not this one",
                         "gender": "female", "speaker_id": str(n % 2), "is_gold_transcript": True, "accent": "None"},
        ("Thank you, Mr President.", "I hope that we all agree."),
    ),
    "speechcolab/gigaspeech": Hub(
        "l",
        "l/{split}-00000-of-00001.parquet",
        lambda n, text: {"segment_id": f"POD{n}", "speaker": "N/A", "text": text, "begin_time": 1.0 * n,
                         "end_time": n + 1.0, "audio_id": "POD", "title": "", "url": "", "source": 1, "category": 1,
                         "original_full_path": "pod.opus"},
        ("AS THEY'RE LEAVING <COMMA> CAN I PULL YOU ASIDE <QUESTIONMARK>", "WELL <COMMA> SO DO WE <PERIOD>"),
    ),
    "kensho/spgispeech": Hub(
        None,
        "L/{split}/0000.parquet",
        lambda n, text: {"wav_filename": f"{n}.wav", "wav_filesize": 32044, "transcript": text},
        ("Thank you, and good morning.", "We have had a good quarter."),
    ),
    "sanchit-gandhi/earnings22_robust_split": Hub(
        None,
        "data/{split}-00000-of-00001.parquet",
        lambda n, text: {"source_id": "446", "segment_id": str(n), "sentence": text, "start_ts": 1.0 * n,
                         "end_ts": n + 1.0, "id": f"446-{n}"},
        ("<crosstalk> And so we grew this year.", "Thanks for the question."),
    ),
}  # fmt: skip


def hub(root, name, splits, rows=4):
    """A data set of the Hub as a folder below `root`, with rows of one to two seconds in each split."""
    import datasets

    found, folder = HUB[name], root / name
    folder.mkdir(parents=True)
    if found.config:
        files = [{"split": split, "path": found.place.format(split=split)} for split in splits]
        card = yaml.safe_dump({"configs": [{"config_name": found.config, "data_files": files}]})
        (folder / "README.md").write_text(f"---\n{card}---\n")
    for split in splits:
        table = []
        for n in range(rows):
            encoded = io.BytesIO()
            soundfile.write(encoded, noise(1 + n / rows, 16000, seed=f"{split} {n}"), 16000, format="WAV")
            audio = {"bytes": encoded.getvalue(), "path": f"{n}.wav"}
            table.append({"audio": audio, **found.row(n, found.said[n % len(found.said)])})
        path = folder / found.place.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(table).cast_column("audio", datasets.Audio(decode=False)).to_parquet(path)
