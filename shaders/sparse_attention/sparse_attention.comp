#version 450
#extension GL_GOOGLE_include_directive : require
#define LISTS
#include "../attention/attention.glsl"
