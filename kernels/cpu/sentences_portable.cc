#include "kernels/cpu/attention_mass_kernel.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/sentence_index_kernel.h"
#include "kernels/cpu/sentence_score_kernel.h"

namespace sentencekv {

void FillSentencesPortable(CpuKernels& kernels) {
  kernels.sentences = {IndexSentence, ScoreItem, AddMass};
}

}  // namespace sentencekv
