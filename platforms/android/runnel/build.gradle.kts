plugins {
    id("com.android.library")
    kotlin("android")
    `maven-publish`
}

group = "org.runnel"
version = "0.1.0"

// Where this machine has flatc's headers, Vulkan's and nlohmann_json: header-only, the same for every target.
val headers = providers.gradleProperty("runnel.headers").getOrElse("/usr/include")
val json = providers.gradleProperty("runnel.json").getOrElse("/usr/share/cmake/nlohmann_json")
// C++ code that takes the C interface through prefab wants c++_shared, or the two C++ libraries cannot be told apart.
val stl = providers.gradleProperty("runnel.stl").getOrElse("c++_static")

android {
    namespace = "org.runnel"
    compileSdk = 36
    ndkVersion = "28.2.13676358"
    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
        externalNativeBuild {
            cmake {
                arguments += listOf(
                    "-DANDROID_STL=$stl", "-DCMAKE_BUILD_TYPE=Release", "-DRUNNEL_FLATBUFFERS_INCLUDE=$headers", "-DRUNNEL_VULKAN_INCLUDE=$headers",
                    "-Dnlohmann_json_DIR=$json",
                )
                targets += "runnel_android"
            }
        }
    }
    externalNativeBuild { cmake { path = file("src/main/cpp/CMakeLists.txt") } }
    buildFeatures { prefabPublishing = true }
    prefab {
        create("runnel_android") {
            headers = "../../../runtime/include"
            libraryName = "librunnel"
        }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
    // The tests of src/test need the library and models of a host: platforms/android/test.sh runs them.
    testOptions { unitTests.all { it.enabled = false } }
    publishing { singleVariant("release") { withSourcesJar() } }
}

dependencies {
    api("org.jetbrains.kotlinx:kotlinx-coroutines-core:1.11.0")
}

publishing {
    publications {
        register<MavenPublication>("release") {
            artifactId = "runnel"
            afterEvaluate { from(components["release"]) }
        }
    }
}
