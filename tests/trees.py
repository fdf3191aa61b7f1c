"""Small corpora in the publishers' layouts: noise for audio, so that every sample can be told from every other."""

import numpy as np
import soundfile

from rnnt.corpora import common_voice

SOURCE = {"path": None, "url": None, "keep_archives": False, "allow_subset": True}


def noise(seconds, rate, channels=1, seed=0):
    """int16 samples [frames, channels]."""
    return np.random.default_rng(seed).integers(-8000, 8000, (round(seconds * rate), channels), dtype="int16")


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
            made[name] = noise(1 + n, 16000, seed=len(made))
            write(chapter / f"{name}.flac", made[name], 16000)
            lines.append(f"{name} IT'S UTTERANCE {'ABC'[n]}")
        (chapter / f"{speaker}-100.trans.txt").write_text("\n".join(lines) + "\n")
    return made


def voice(root, splits=("train", "dev", "test")):
    """Two clips a split, one of them with a sentence in quotes."""
    folder = root / "cv-corpus-9.0-2022-04-27/en"
    made = {}
    for split in splits:
        lines = ["\t".join(common_voice.COLUMNS)]
        for n, sentence in enumerate(['"""Good-bye,"" said the boy."', "Don’t go, “Ann”."]):
            name = f"common_voice_en_{len(made)}"
            made[name] = noise(1, 48000, seed=len(made))
            write(folder / f"clips/{name}.mp3", made[name], 48000, format="MP3")
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


def tedlium(root):
    """A talk in each split; train's is a link into data/."""
    base = root / "TEDLIUM_release-3"
    made = {"Ann_2009": talk(base / "data", "Ann_2009", seed=1)}
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
