# The longer part of ../test.sh, which sources this.

# Android 7.0 is the oldest that the AAR runs on.
old_android() {
  "${maven[@]}" -f "$here/host/pom.xml" -Papi -Drunnel.out="$out/api" process-classes >"$out/api.log" 2>&1 || { grep -E 'ERROR' "$out/api.log" | head -n 20; return 1; }
}

# The AAR of what can be built here: its libraries are those of this machine's C library, so no phone can load them, but all else is as it will be.
aar() {
  mkdir -p "$out/libs/x86_64"
  strip -o "$out/libs/x86_64/librunnel.so" "$out/jni/librunnel.so"
  RUNNEL_AAR_LIBS=$out/libs RUNNEL_MAVEN="-Dmaven.repo.local=$out/m2" bash "$here/build_aar.sh" "$out/aar" x86_64 >"$out/aar.log" 2>&1 || { tail -n 20 "$out/aar.log"; return 1; }
  unzip -Z1 "$out/aar/runnel.aar" | sort >"$out/aar.list"
  for file in AndroidManifest.xml R.txt classes.jar proguard.txt jni/x86_64/librunnel.so prefab/prefab.json prefab/modules/runnel/include/runnel/runnel.h prefab/modules/runnel/libs/android.x86_64/librunnel.so; do
    grep -qx "$file" "$out/aar.list" || { echo "the AAR lacks $file"; return 1; }
  done
}

r8=com.android.tools:r8:8.13.6
fetch() { "${maven[@]}" dependency:get -Dartifact="$1" -Dtransitive=false >"$out/fetch.log" 2>&1; }
in_repository() { find "$out/m2/$1" -name "$2" | head -n 1; }

# The whole app through Android's own shrinker with the rules of the AAR: to Android's bytecode, and to Java's, which then runs here against the
# library: what the native side looks for by name must still be there.
shrunk() {
  fetch "$r8" || { echo "$r8 cannot be fetched"; return 1; }
  local tool android stdlib coroutines
  tool=$(in_repository com/android/tools/r8 'r8-*.jar')
  android=$(in_repository org/robolectric/android-all/7.0.0_r1-robolectric-r1 '*.jar')
  stdlib=$(in_repository org/jetbrains/kotlin/kotlin-stdlib/2.4.21 'kotlin-stdlib-2.4.21.jar')
  coroutines=$(in_repository org/jetbrains/kotlinx/kotlinx-coroutines-core-jvm/1.11.0 '*1.11.0.jar')
  rm -rf "$out/dex" "$out/shrunk" && mkdir -p "$out/dex" "$out/shrunk"
  java -cp "$tool" com.android.tools.r8.D8 --release --min-api 24 --lib "$android" --classpath "$stdlib" --classpath "$coroutines" --output "$out/dex" "$out/aar/aar/classes.jar" || return 1
  [ -s "$out/dex/classes.dex" ] || return 1
  printf -- '-keep class org.runnel.shrunk.MainKt { public static void main(java.lang.String[]); }\n-dontwarn **\n' >"$out/shrunk/main.pro"
  "${maven[@]}" -f "$here/host/pom.xml" -Pshrunk -Drunnel.out="$out/shrunk" compile >"$out/shrunk.log" 2>&1 || { grep ERROR "$out/shrunk.log" | head; return 1; }
  (cd "$out/shrunk/classes" && jar --create --file "$out/shrunk/main.jar" org)
  java -cp "$tool" com.android.tools.r8.R8 --release --classfile --lib "$java_home" --pg-conf "$here/runnel/consumer-rules.pro" --pg-conf "$out/shrunk/main.pro" \
    --output "$out/shrunk/shrunk.jar" "$out/shrunk/main.jar" "$stdlib" "$coroutines" >"$out/shrunk.log" 2>&1 || { tail "$out/shrunk.log"; return 1; }
  local whole said
  whole=$(java -Dorg.runnel.library="$out/jni/librunnel.so" -cp "$out/shrunk/main.jar:$stdlib:$coroutines" org.runnel.shrunk.MainKt "$out/models/llama.rnl") || return 1
  said=$(java -Dorg.runnel.library="$out/jni/librunnel.so" -cp "$out/shrunk/shrunk.jar" org.runnel.shrunk.MainKt "$out/models/llama.rnl") || return 1
  [ -n "$whole" ] && [ "$said" = "$whole" ] || { echo "shrunk: $said"; echo "whole: $whole"; return 1; }
  echo "shrunk: $(stat -c %s "$out/shrunk/main.jar") + $(stat -c %s "$stdlib") + $(stat -c %s "$coroutines") bytes of classes become $(stat -c %s "$out/shrunk/shrunk.jar")"
}

# Links the library of the preset aarch64 where that was built.
aarch64() {
  local finished=
  [ ! -e "$root/build/aarch64/runtime/librunnel.a" ] || finished=$root/build/aarch64
  cmake -S "$here/runnel/src/main/cpp" -B "$out/aarch64" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE="$root/platforms/linux/aarch64.cmake" \
    -DRUNNEL_JNI_INCLUDE="$java_home/include" -DRUNNEL_BUILD="$finished" >"$out/aarch64.log" && cmake --build "$out/aarch64" --target runnel_android -j2 >>"$out/aarch64.log" || { tail -n 20 "$out/aarch64.log"; return 1; }
  aarch64-linux-gnu-strip -o "$out/aarch64/stripped.so" "$out/aarch64/librunnel.so"
  bash "$here/check_elf.sh" "$out/aarch64/stripped.so"
}

# Robolectric needs androidx classes that come in an archive of Android's.
app() {
  "${maven[@]}" -f "$here/host/app.pom.xml" -Drunnel.out="$out/app" process-test-resources || return 1
  (cd "$out/app" && unzip -p robolectric/monitor-*.aar classes.jar >monitor.jar)
  "${maven[@]}" -f "$here/host/app.pom.xml" -Drunnel.out="$out/app" -Drunnel.library="$out/jni/librunnel.so" -Drunnel.models="$out/models" test
}

check "calls of Android 7.0 alone" old_android
check "AAR" aar
check "shrunk by R8" shrunk
maven_tests app "$out/app" app
if command -v aarch64-linux-gnu-strip >/dev/null; then check "ELF file of aarch64" aarch64; else echo "left out: the cross build for aarch64 (g++-aarch64-linux-gnu is missing)"; fi
