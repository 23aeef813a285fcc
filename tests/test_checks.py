from cifar_pipeline.checks import Check


def test_a_message_says_what_was_found_the_limit_and_the_repair():
    check = Check("counts", False, found="9 rows", limit="10 rows", repair="Build it again.")
    assert check.message("As many rows as the settings say.") == (
        "counts: As many rows as the settings say. Found 9 rows, expected 10 rows. Build it again."
    )


def test_what_a_check_does_not_know_is_left_out_of_its_message():
    assert Check("counts", False).message("Rows are counted") == "counts: Rows are counted."
    assert Check("counts", False, found="9 rows").message("Rows.") == "counts: Rows. Found 9 rows."
