"""The papers' printed figures, recomputed from the papers' own tables.

    python benchmarks/printed.py

The numbers below are those of Lee et al. 2020 (Tables 1 and 3) and Jin et al. 2019 (Table 1), typed
in. The output is quoted and read in docs/printed.md.
"""

import math
from statistics import fmean, pstdev, stdev

OFFSET_DB = 10 * math.log10(255**2)
"""20·log10(255²) in the place of 10·log10(255²): what the authors' code adds to every PSNR."""

LEE_1 = {
    # Case: MAE (grey levels), PSNR (dB).
    "CT01": (34.2438, 62.19011),
    "CT02": (16.17634, 66.29696),
    "CT03": (23.92239, 63.87309),
    "CT04": (13.74883, 68.16079),
    "CT05": (21.08447, 64.35221),
    "CT06": (24.9148, 64.08604),
    "CT07": (18.20002, 65.42336),
    "CT08": (26.93308, 62.8914),
    "CT09": (19.16938, 64.81556),
    "CT10": (14.6635, 67.66655),
    "CT11": (23.86057, 64.74725),
    "CT12": (28.89516, 61.95778),
    "CT13": (16.32125, 66.3896),
    "CT14": (18.26298, 64.31207),
    "CT15": (17.50098, 66.67446),
}
LEE_1_PRINTED = {"MAE": (21.19317, 5.814048), "PSNR": (64.92248, 1.857414)}

FEATURES = ("disc signal", "disc protrusion", "muscle", "fat tissue", "facet joints")
FEATURES += ("degree of stenosis", "thecal sac", "bone", "overall")
LEE_3 = {
    # Case: percent of similarity by radiologist 1 and radiologist 2, for each of FEATURES.
    "CT01": "90-70 95-80 95-90 90-90 90-70 90-80 85-80 90-70 90-80",
    "CT02": "80-80 95-80 80-80 90-90 80-80 90-90 90-80 80-80 85-85",
    "CT03": "80-70 80-30 75-90 80-90 80-80 75-30 75-50 90-80 80-69",
    "CT04": "70-70 95-60 85-90 90-100 80-80 95-60 95-40 90-90 90-75",
    "CT05": "80-60 90-70 90-90 90-90 85-70 95-80 90-80 90-50 90-70",
    "CT06": "80-70 90-60 90-90 95-40 80-70 90-80 85-80 90-70 85-70",
    "CT07": "80-80 80-90 90-70 75-50 80-80 90-80 85-60 80-80 80-75",
    "CT08": "85-70 90-40 95-90 95-80 90-80 90-70 90-60 90-80 90-70",
    "CT09": "90-70 85-80 85-90 95-90 90-80 90-80 85-80 90-80 85-80",
    "CT10": "80-40 95-60 95-90 95-90 85-80 95-40 90-40 90-80 90-65",
    "CT11": "75-80 85-90 90-80 90-90 90-50 80-70 80-50 90-50 80-75",
    "CT12": "75-80 95-80 95-90 95-90 90-70 90-80 85-80 90-70 90-80",
    "CT13": "90-80 85-80 95-90 90-90 90-70 90-80 85-70 90-70 90-80",
    "CT14": "75-60 95-90 80-90 90-80 80-80 90-90 85-80 90-80 80-80",
    "CT15": "75-80 90-80 85-80 90-80 80-80 90-90 85-80 90-80 85-80",
}
LEE_3_PRINTED = ((79.6, 70.7), (89.3, 70.7), (87.9, 86.4), (90.0, 82.1), (84.3, 75.0))
LEE_3_PRINTED += ((89.3, 72.9), (86.1, 66.4), (88.6, 74.3), (85.7, 74.6))
LEE_3_TEXT = {
    # Mean and SD over both radiologists as the text gives them; overall without SD.
    "muscle": (87.5, 6.3),
    "fat tissue": (86.3, 12.5),
    "disc signal": (75.5, 10.0),
    "thecal sac": (76.7, 14.9),
    "overall": (80.2, None),
}

JIN_1 = {
    # Column: patients 1 to 10, then the printed mean and SD.
    "MAE paired": (
        (24.20, 17.82, 22.01, 18.23, 18.26, 20.52, 20.63, 19.42, 19.12, 23.23),
        (20.34, 2.20),
    ),
    "MAE unpaired": (
        (27.71, 24.12, 22.45, 23.64, 22.82, 20.41, 18.72, 22.77, 16.98, 29.76),
        (22.94, 3.62),
    ),
    "MAE ours": (
        (22.76, 18.27, 22.27, 16.75, 17.68, 17.57, 16.55, 18.30, 18.57, 24.91),
        (19.36, 2.73),
    ),
    "PSNR paired": (
        (62.82, 64.91, 63.59, 65.28, 64.92, 64.87, 64.55, 64.10, 64.93, 63.81),
        (64.28, 0.81),
    ),
    "PSNR unpaired": (
        (62.45, 63.05, 63.83, 63.44, 64.04, 64.78, 64.14, 63.22, 66.19, 62.60),
        (63.77, 1.06),
    ),
    "PSNR ours": (
        (64.65, 65.93, 63.55, 65.76, 65.97, 65.92, 66.28, 65.82, 65.43, 64.17),
        (65.35, 0.86),
    ),
}


def rmse(psnr: float) -> float:
    """Root mean square error in grey levels that a PSNR with peak 255 stands for."""
    return 255 / 10 ** (psnr / 20)


def possible(pairs: list[tuple[float, float]]) -> int:
    """How many pairs of MAE and PSNR one image can have: MAE ≤ RMSE ≤ √(255·MAE)."""
    return sum(mae <= rmse(psnr) <= math.sqrt(255 * mae) for mae, psnr in pairs)


def psnr_lines(title: str, pairs: list[tuple[float, float]]):
    """Whether the pairs of MAE and PSNR of a table can be, as printed and less the offset."""
    mean = fmean(psnr for _, psnr in pairs)
    for name, shift in (("as printed", 0.0), (f"less {OFFSET_DB:.4f} dB", OFFSET_DB)):
        shifted = [(mae, psnr - shift) for mae, psnr in pairs]
        over = sum(psnr > 30 for _, psnr in shifted)
        yield (
            f"{title}, PSNR {name}: mean {mean - shift:.2f} dB, RMSE {rmse(mean - shift):.3f}, "
            f"possible {possible(shifted)} of {len(pairs)}, above 30 dB {over}"
        )


def lee_1():
    """Table 1 of Lee et al.: means, SDs, and whether the two columns fit each other."""
    for column, (name, printed) in enumerate(LEE_1_PRINTED.items()):
        values = [row[column] for row in LEE_1.values()]
        yield (
            f"Lee 1, {name}: printed {printed[0]} ± {printed[1]}, recomputed "
            f"{fmean(values):.5f} ± {stdev(values):.6f} (n-1), ± {pstdev(values):.6f} (n)"
        )
    yield from psnr_lines("Lee 1", list(LEE_1.values()))


def lee_3():
    """Table 3 of Lee et al.: means by reader with and without CT01, and the text's numbers."""
    cells = [[tuple(map(int, c.split("-"))) for c in row.split()] for row in LEE_3.values()]
    for place, name in enumerate(FEATURES):
        for reader in (0, 1):
            values = [row[place][reader] for row in cells]
            yield (
                f"Lee 3, {name}, reader {reader + 1}: printed {LEE_3_PRINTED[place][reader]}, "
                f"all 15 {fmean(values):.1f}, without CT01 {fmean(values[1:]):.1f}"
            )
    for name, (mean, spread) in LEE_3_TEXT.items():
        values = [value for row in cells for value in row[FEATURES.index(name)]]
        printed = f"{mean}" if spread is None else f"{mean} ± {spread}"
        yield (
            f"Lee text, {name}, both readers: printed {printed}, all 15 {fmean(values):.1f} ± "
            f"{stdev(values):.1f}, without CT01 {fmean(values[2:]):.1f} ± {stdev(values[2:]):.1f}"
        )
    single = [value for row in cells for cell in row for value in cell]
    yield f"Lee text, range: printed 40 to 100, table {min(single)} to {max(single)}"
    training, both = 280 / 129, (280 + 15) / 129
    yield f"Lee text, pairs a patient: printed 2.29, 280/129 {training:.2f}, 295/129 {both:.2f}"


def jin_1():
    """Table 1 of Jin et al.: means, both SDs, and whether MAE and PSNR fit each other."""
    for name, (values, (mean, spread)) in JIN_1.items():
        yield (
            f"Jin 1, {name}: printed {mean:.2f} ± {spread:.2f}, recomputed {fmean(values):.2f} ± "
            f"{stdev(values):.2f} (n-1), ± {pstdev(values):.2f} (n)"
        )
    for kind in ("paired", "unpaired", "ours"):
        pairs = list(zip(JIN_1[f"MAE {kind}"][0], JIN_1[f"PSNR {kind}"][0], strict=True))
        yield from psnr_lines(f"Jin 1 {kind}", pairs)


if __name__ == "__main__":
    print("\n".join([*lee_1(), *lee_3(), *jin_1()]))
