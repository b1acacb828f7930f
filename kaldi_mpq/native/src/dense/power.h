// SPDX-License-Identifier: Apache-2.0
// Constants of 2^x in float32: x = n + f with n whole and |f| <= 1/2, 2^x = 2^n p(f).
//
// p is the polynomial of degree 5 with the least relative error on [-1/2, 1/2], 7.5e-8 before rounding, 2.2e-7 with it.
#pragma once

namespace kaldi_mpq::dense {

constexpr float kPower0 = 1.0000001192092896f;
constexpr float kPower1 = 0.6931469440460205f;
constexpr float kPower2 = 0.24022120237350464f;
constexpr float kPower3 = 0.05550713092088699f;
constexpr float kPower4 = 0.009675540961325169f;
constexpr float kPower5 = 0.0013276472454890609f;

// Adding 1.5 * 2^23 to a float rounds it to a whole number, which its low bits then hold. 127 more is the bias of the
// exponent.
constexpr float kRounder = 12582912.0f + 127.0f;

constexpr float kLog2E = 1.44269504088896340736f;

constexpr float kSmallestPower = -127.0f;  // 2^x is taken as 0 from here on
constexpr float kLargestPower = 127.0f;    // beyond, 2^x is not computed right

}  // namespace kaldi_mpq::dense
