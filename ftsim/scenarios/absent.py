"""The entries of docs/failures.md that no scenario reproduces, each with the reason."""

ABSENT: dict[str, str] = {
    "C5": "it is a refusal of pooled (serverless) trainers, and every trainer here is dedicated to a job",
    "F19": "it is a leak of pooled (serverless) sessions and their quota, and every trainer here is dedicated to a job",
}
