// Functions of device code that the toolkit's headers declare for g++ and
// nobody defines. The fast ones are as exact here as the others.
#include <cmath>

extern "C" {

float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
float __expf(float x) { return std::exp(x); }
float __exp10f(float x) { return std::pow(10.0f, x); }
float __logf(float x) { return std::log(x); }
float __log2f(float x) { return std::log2(x); }
float __log10f(float x) { return std::log10(x); }
float __powf(float x, float y) { return std::pow(x, y); }
float __sinf(float x) { return std::sin(x); }
float __cosf(float x) { return std::cos(x); }
float __fdividef(float x, float y) { return x / y; }

}  // extern "C"
