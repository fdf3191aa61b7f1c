"""Upload a model folder to the Hugging Face Hub."""

import re
from pathlib import Path

from rnnt import console
from rnnt.errors import UserError

FILES = ["README.md", "model.nemo", "tokenizer/tokenizer.model", "tokenizer/vocab.txt"]
FORM = ["transformers/*.json", "transformers/*.safetensors"]  # where there is one


def parser():
    p = console.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="folder that make_model_folder.py wrote")
    p.add_argument("--repo", required=True, help="repository of the Hub, USER/NAME; made where it does not exist")
    p.add_argument("--private", action="store_true", help="for you alone; a repository that is public is refused")
    return p


def main(args):
    import huggingface_hub

    for name in FILES:
        if not (args.model / name).is_file():
            raise UserError(f"{args.model}: no {name}: not a folder that make_model_folder.py wrote")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.repo):
        raise UserError(f"--repo {args.repo}: expected USER/NAME")
    if huggingface_hub.get_token() is None:
        raise UserError(f"no Hugging Face token here: {LOG_IN}")
    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(args.repo, private=args.private, exist_ok=True)
        # For a repository that is there, `private` above changes nothing.
        if args.private and not api.model_info(args.repo).private:
            raise UserError(f"--private: {args.repo} exists and is public: nothing was uploaded")
        # By name, so that nothing else that lies in the folder goes out.
        api.upload_folder(
            repo_id=args.repo,
            folder_path=args.model,
            allow_patterns=FILES + FORM,
            commit_message="Upload the model",
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(explain(error, args.repo)) from None
    print(url)


LOG_IN = "log in with `hf auth login` (`huggingface-cli login` before huggingface_hub 1.0), or set HF_TOKEN"


def explain(error, repo):
    """One line for what the Hub, or the way there, has answered."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = (str(error).strip().splitlines() or [""])[0]
    if status in (401, 403):
        return f"{repo}: the Hub refuses this token ({reason}): {LOG_IN}; it must have write permission"
    if status is not None:
        return f"{repo}: the Hub refuses ({reason})"
    return (
        f"{repo}: the upload failed: no network? ({type(error).__name__}: {reason}); if you are not logged in, {LOG_IN}"
    )


if __name__ == "__main__":
    console.run(main, parser())
