#!/bin/bash
# Prepare, then two trainings side by side, then a report; a clean-up whatever happens.
prepare=$(sbatch --parsable --mem=50M -J prepare -o prepare.out --wrap 'echo prepared > data.txt; echo done')
first=$(sbatch --parsable --mem=50M -J train1 -o train1.out --dependency=afterok:$prepare --wrap 'cat data.txt; echo 91 > score.1')
second=$(sbatch --parsable --mem=50M -J train2 -o train2.out --dependency=afterok:$prepare --wrap 'cat data.txt; exit 3')
sbatch --mem=50M -J report -o report.out --dependency=afterok:$first:$second --kill-on-invalid-dep=yes --wrap 'cat score.*'
sbatch --mem=50M -J blame -o blame.out --dependency=afternotok:$second --wrap 'echo train2 failed'
sbatch --mem=50M -J cleanup -o cleanup.out --dependency=afterany:$first:$second --wrap 'rm -f data.txt; ls score.*'
